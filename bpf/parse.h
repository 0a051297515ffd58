// From a frame's bytes to the packet record: the rules of probe/capture, in C that knows nothing
// of BPF. tests/bpf/test_parser.py compiles it natively and compares both, byte by byte.
//
// The verifier follows every path through a program. Straight-line parsing would multiply
// paths with each header that may come or not, so this is a loop over a small state in memory:
// values from memory are unknown to the verifier, so that all paths meet again where a pass
// begins, and the cost is passes times the length of the body. The steps stand in the order of
// the headers: plain packets take one pass.
#ifndef NETSPECTRA_PARSE_H
#define NETSPECTRA_PARSE_H

#include "abi.h"

#define INLINE static inline __attribute__((always_inline))

#define FRAME_BYTES 256 // of each frame are looked at; a power of two
#define FRAME_SLACK 48 // that may be read behind them, and never count

enum { MAX_TUNNELS = 4 };
enum { CUT = 0xFFFFFFFF }; // position: the headers go on after the captured bytes, or are malformed

enum eth_type {
	FIRST_ETH_TYPE = 0x0600,
	IPV4 = 0x0800,
	BRIDGED = 0x6558, // a whole Ethernet frame as a tunnel's payload
	VLAN = 0x8100,
	IPV6 = 0x86DD,
	MPLS = 0x8847,
	MPLS_MULTICAST = 0x8848,
	VLAN_QINQ = 0x88A8,
	VLAN_OLD_QINQ = 0x9100,
};

enum ip_proto {
	HOP_BY_HOP = 0,
	ICMP = 1,
	IP_IN_IP = 4,
	TCP = 6,
	UDP = 17,
	DCCP = 33,
	IPV6_IN_IP = 41,
	ROUTING = 43,
	FRAGMENT = 44,
	GRE = 47,
	AUTHENTICATION = 51,
	ICMPV6 = 58,
	DESTINATION = 60,
	SCTP = 132,
	MOBILITY = 135,
	UDP_LITE = 136,
	HOST_IDENTITY = 139,
	SHIM6 = 140,
};

enum udp_port { VXLAN_PORT = 4789, VXLAN_OLD_PORT = 8472, GENEVE_PORT = 6081 };

enum gre_bits {
	GRE_CHECKSUM = 0x8000,
	GRE_KEY = 0x2000,
	GRE_SEQUENCE = 0x1000,
	FIRST_VSID = 0x1000, // NVGRE reserves the subnet identifiers below
};

enum step {
	AT_ETHERNET,
	AT_RAW_IP,
	AT_TAG,
	AT_NETWORK,
	AT_IPV4,
	AT_IPV6,
	AT_OTHER, // no IP, or none that is sound
	AT_EXTENSION,
	AT_TRANSPORT,
	AT_TUNNEL,
	DONE,
};

struct parser {
	u32 step; // which header is next
	u32 at; // where it begins
	u32 end; // of the captured bytes, or of the IP datagram when that comes first
	u32 eth_type; // of the next network layer
	u32 ethernet; // where the Ethernet header before it began, CUT for none
	u32 key; // of the tunnel that was left last
	u32 header_bytes; // up to and with the innermost layer-4 header
	u8 tagged; // the outermost VLAN is known
	u8 inside; // a tunnel's payload is being read
	u8 tunnels; // whose payload could be read
	u8 max_tunnels;
	struct packet outer; // the record before the first of them
};

// Each pass but the last gets past 8 bytes: an IP or extension header, or two tags of 4 bytes.
#define MAX_PASSES (FRAME_BYTES / 8 + 1)

// Unaligned loads. Those of BPF may be unaligned, but clang splits them when it is told so.
#if defined(__bpf__) || defined(NETSPECTRA_BCC)
#define ANYWHERE __attribute__((may_alias))
#else
#define ANYWHERE __attribute__((may_alias, aligned(1)))
#endif
typedef u16 ANYWHERE load16;
typedef u32 ANYWHERE load32;
typedef u64 ANYWHERE load64;

#define MAPPED 0xFFFF0000 // bytes 8 to 11 of ::ffff:a.b.c.d

INLINE u32 be16(const u8 *p)
{
	return __builtin_bswap16(*(const load16 *)p);
}

INLINE u32 be32(const u8 *p)
{
	return __builtin_bswap32(*(const load32 *)p);
}

// Where a header is. Callers compare with the end; the mask is what the verifier sees.
INLINE const u8 *header(const u8 *frame, u64 at)
{
	return frame + (at & (FRAME_BYTES - 1));
}

INLINE u32 is_ip(u32 eth_type)
{
	return eth_type == IPV4 || eth_type == IPV6;
}

INLINE u32 ip_by_version(const u8 *h, u32 otherwise)
{
	u32 version = h[0] >> 4;

	return version == 4 ? IPV4 : version == 6 ? IPV6 : otherwise;
}

// Bytes of an IPv6 extension header (RFC 8200, RFC 7045); 0: this is an upper-layer protocol.
INLINE u32 extension_bytes(u32 ip_proto, const u8 *h)
{
	switch (ip_proto) {
	case HOP_BY_HOP:
	case ROUTING:
	case DESTINATION:
	case MOBILITY:
	case HOST_IDENTITY:
	case SHIM6:
		return (h[1] + 1) * 8;
	case FRAGMENT:
		return 8;
	case AUTHENTICATION:
		return (h[1] + 2) * 4;
	default:
		return 0;
	}
}

INLINE void copy_macs(struct packet *out, const u8 *ethernet)
{
	*(load32 *)out->dst_mac = *(const load32 *)ethernet;
	*(load16 *)(out->dst_mac + 4) = *(const load16 *)(ethernet + 4);
	*(load32 *)out->src_mac = *(const load32 *)(ethernet + 6);
	*(load16 *)(out->src_mac + 4) = *(const load16 *)(ethernet + 10);
}

// Begin with a frame of captured bytes.
INLINE void parse_begin(struct parser *s, struct packet *out, u32 first, u32 captured)
{
	s->step = first;
	s->at = 0;
	s->end = captured;
	s->eth_type = 0;
	s->ethernet = CUT;
	s->key = 0;
	s->header_bytes = 0;
	s->tagged = 0;
	s->inside = 0;
	s->tunnels = 0;
	__builtin_memset(out, 0, sizeof(*out));
}

// The outermost VLAN tag was taken off the frame.
INLINE void parse_vlan(struct parser *s, struct packet *out, u32 vlan_id)
{
	s->tagged = 1;
	out->vlan_id = vlan_id;
}

INLINE void at_ethernet(struct parser *s, const u8 *frame)
{
	u64 at = s->at;

	s->at = CUT;
	s->step = AT_NETWORK;
	if (at + 14 > s->end)
		return;
	s->ethernet = at;
	s->eth_type = be16(header(frame, at) + 12);
	s->at = at + 14;
	s->step = AT_TAG;
}

INLINE void at_raw_ip(struct parser *s, const u8 *frame)
{
	if (s->at < s->end)
		s->eth_type = ip_by_version(header(frame, s->at), 0);
	if (!s->eth_type)
		s->at = CUT;
	s->step = AT_NETWORK;
}

// One VLAN tag, LLC/SNAP or MPLS label (RFC 3032). IEEE 802.3 lengths count as type 0.
INLINE void at_tag(struct parser *s, const u8 *frame, struct packet *out)
{
	u64 at = s->at, end = s->end, eth_type = s->eth_type;
	const u8 *h = header(frame, at);

	s->step = AT_NETWORK;
	if (eth_type == VLAN || eth_type == VLAN_QINQ || eth_type == VLAN_OLD_QINQ) {
		s->at = CUT;
		if (at + 4 > end)
			return;
		if (!s->tagged && !s->inside)
			out->vlan_id = be16(h) & 0xFFF;
		s->tagged = 1;
		s->eth_type = be16(h + 2);
		s->at = at + 4;
		s->step = AT_TAG;
	} else if (eth_type < FIRST_ETH_TYPE) {
		s->eth_type = 0;
		if (at + 8 > end || be32(h) != 0xAAAA0300 || be16(h + 4))
			return;
		s->at = at + 8;
		if (be16(h + 6) < FIRST_ETH_TYPE)
			return;
		s->eth_type = be16(h + 6);
		s->step = AT_TAG;
	} else if (eth_type == MPLS || eth_type == MPLS_MULTICAST) {
		u64 bottom = h[2] & 1;

		s->at = CUT;
		if (at + 4 + bottom > end)
			return;
		s->at = at + 4;
		if (bottom)
			s->eth_type = ip_by_version(h + 4, eth_type);
		else
			s->step = AT_TAG;
	}
}

// Behind the link layer: is there a sound IP header?
INLINE void at_network(struct parser *s, const u8 *frame)
{
	u64 at = s->at, end = s->end, eth_type = s->eth_type;
	const u8 *h = header(frame, at);

	s->step = AT_OTHER;
	if (eth_type == IPV4 && at + 20 <= end && h[0] >= 0x45 && h[0] <= 0x4F)
		s->step = AT_IPV4;
	else if (eth_type == IPV6 && at + 40 <= end && h[0] >> 4 == 6)
		s->step = AT_IPV6;
	// When a tunnel's payload can't be read, the outer packet has to do.
	else if (s->inside && (is_ip(eth_type) || at == CUT || s->ethernet == CUT))
		s->step = DONE;
}

// The record is to be that of the network layer at hand, maybe one in a tunnel.
INLINE void begin_layer(struct parser *s, const u8 *frame, struct packet *out, u32 decapsulate)
{
	if (s->inside) {
		if (s->tunnels == 0) {
			if (!decapsulate)
				s->outer = *out;
			out->tunnel_id = s->key;
		}
		s->tunnels++;
	}
	if (s->ethernet != CUT)
		copy_macs(out, header(frame, s->ethernet));
	out->src_port = 0;
	out->dst_port = 0;
	out->eth_type = s->eth_type;
	out->tcp_flags = 0;
	out->flags = s->inside ? DECAPSULATED : 0;
}

INLINE void at_ipv4(struct parser *s, const u8 *frame, struct packet *out)
{
	u64 at = s->at, end = s->end;
	const u8 *h = header(frame, at);
	u64 total_bytes = be16(h + 2);

	out->src_addr[0] = 0;
	out->src_addr[1] = MAPPED | (u64)*(const load32 *)(h + 12) << 32;
	out->dst_addr[0] = 0;
	out->dst_addr[1] = MAPPED | (u64)*(const load32 *)(h + 16) << 32;
	out->tos = h[1];
	out->ttl = h[8];
	out->ip_proto = h[9];
	// 0 is what segmentation offload leaves: up to the frame's end.
	if (total_bytes && at + total_bytes < end)
		end = at + total_bytes;
	at += (h[0] & 15) * 4;
	s->at = at;
	s->end = end;
	s->header_bytes = at;
	s->step = DONE;
	if (be16(h + 6) & 0x1FFF)
		out->flags |= LATER_FRAGMENT;
	else if (at > end)
		out->flags |= L4_UNREADABLE;
	else
		s->step = AT_TRANSPORT;
}

INLINE void at_ipv6(struct parser *s, const u8 *frame, struct packet *out)
{
	u64 at = s->at;
	const u8 *h = header(frame, at);
	u64 payload_bytes = be16(h + 4);

	out->src_addr[0] = *(const load64 *)(h + 8);
	out->src_addr[1] = *(const load64 *)(h + 16);
	out->dst_addr[0] = *(const load64 *)(h + 24);
	out->dst_addr[1] = *(const load64 *)(h + 32);
	out->tos = be16(h) >> 4;
	out->ttl = h[7];
	out->ip_proto = h[6];
	at += 40;
	if (payload_bytes && at + payload_bytes < s->end)
		s->end = at + payload_bytes;
	s->at = at;
	s->header_bytes = at;
	s->step = AT_EXTENSION;
}

INLINE void at_other(struct parser *s, struct packet *out)
{
	out->src_addr[0] = 0;
	out->src_addr[1] = 0;
	out->dst_addr[0] = 0;
	out->dst_addr[1] = 0;
	out->ip_proto = 0;
	out->ttl = 0;
	out->tos = 0;
	if (s->at == CUT || is_ip(s->eth_type))
		out->flags |= L4_UNREADABLE;
	s->step = DONE;
}

// One IPv6 extension header (RFC 8200, RFC 7045), or the upper-layer protocol behind them.
INLINE void at_extension(struct parser *s, const u8 *frame, struct packet *out)
{
	u64 at = s->at, ip_proto = out->ip_proto;
	const u8 *h = header(frame, at);
	u64 bytes = extension_bytes(ip_proto, h);

	s->step = AT_TRANSPORT;
	if (!bytes)
		return;
	s->step = DONE;
	if (at + 8 > s->end) {
		out->flags |= L4_UNREADABLE;
		return;
	}
	out->ip_proto = h[0];
	s->at = at + bytes;
	if (ip_proto == FRAGMENT && be16(h + 2) >> 3)
		out->flags |= LATER_FRAGMENT;
	else
		s->step = AT_EXTENSION;
}

// Ports (ICMP: type * 256 + code as destination) and TCP flags.
INLINE void at_transport(struct parser *s, const u8 *frame, struct packet *out)
{
	u64 at = s->at, end = s->end, ip_proto = out->ip_proto;
	const u8 *h = header(frame, at);

	s->header_bytes = at;
	s->step = AT_TUNNEL;
	if (ip_proto == ICMP || ip_proto == ICMPV6) {
		if (at + 2 > end)
			goto unreadable;
		out->dst_port = be16(h);
		return;
	}
	if (ip_proto != TCP && ip_proto != UDP && ip_proto != SCTP && ip_proto != UDP_LITE &&
	    ip_proto != DCCP)
		return;
	if (at + 4 > end)
		goto unreadable;
	out->src_port = be16(h);
	out->dst_port = be16(h + 2);
	if (ip_proto == UDP)
		s->header_bytes = at + 8;
	if (ip_proto == SCTP)
		s->header_bytes = at + 12;
	if (ip_proto != TCP)
		return;
	if (at + 14 > end)
		goto unreadable;
	out->tcp_flags = h[13];
	s->header_bytes = at + (h[12] >> 4) * 4;
	return;
unreadable:
	out->flags |= L4_UNREADABLE;
	s->step = DONE;
}

// VXLAN (RFC 7348) and Geneve (RFC 8926) behind a UDP header.
INLINE void over_udp(struct parser *s, const u8 *frame, const struct packet *out)
{
	u64 at = s->at + 8, end = s->end, port = out->dst_port;
	const u8 *h = header(frame, at);

	if (at + 8 > end)
		return;
	if (port == VXLAN_PORT || port == VXLAN_OLD_PORT) {
		if (!(h[0] & 0x08)) // the bit that says the identifier is valid
			return;
		s->eth_type = BRIDGED;
		at += 8;
	} else if (port == GENEVE_PORT) {
		s->eth_type = be16(h + 2);
		at += 8 + (h[0] & 0x3F) * 4;
		if (h[0] >> 6 || at > end)
			return;
	} else {
		return;
	}
	s->key = be32(h + 4) >> 8;
	s->at = at;
	s->step = AT_TAG;
}

// GRE of version 0 (RFC 2784, RFC 2890). NVGRE (RFC 7637) is GRE with just a key that carries
// Ethernet, its identifier in the upper 24 bits; gretap looks the same but for a small plain key.
INLINE void over_gre(struct parser *s, const u8 *frame)
{
	u64 at = s->at, end = s->end;
	const u8 *h = header(frame, at);
	u64 bits = be16(h), eth_type = be16(h + 2);

	if (at + 4 > end || bits & ~(GRE_CHECKSUM | GRE_KEY | GRE_SEQUENCE))
		return;
	at += 4;
	if (bits & GRE_CHECKSUM)
		at += 4;
	if (bits & GRE_KEY) {
		u32 key = be32(header(frame, at));

		if (bits == GRE_KEY && eth_type == BRIDGED && key >> 8 >= FIRST_VSID)
			key >>= 8;
		s->key = key;
		at += 4;
	}
	if (bits & GRE_SEQUENCE)
		at += 4;
	if (at > end)
		return;
	s->eth_type = eth_type;
	s->at = at;
	s->step = AT_TAG;
}

// What the transport payload carries, if it is a tunnel: IP in IP is RFC 2003 and RFC 4213.
INLINE void at_tunnel(struct parser *s, const u8 *frame, const struct packet *out)
{
	u64 ip_proto = out->ip_proto;

	s->inside = 1;
	s->ethernet = CUT;
	s->key = 0;
	s->step = DONE;
	if (s->tunnels == s->max_tunnels)
		return;
	if (ip_proto == UDP) {
		over_udp(s, frame, out);
	} else if (ip_proto == GRE) {
		over_gre(s, frame);
	} else if (ip_proto == IP_IN_IP) {
		s->eth_type = IPV4;
		s->step = AT_TAG;
	} else if (ip_proto == IPV6_IN_IP) {
		s->eth_type = IPV6;
		s->step = AT_TAG;
	}
}

// Make the compiler go back to memory for *s, and with it the verifier.
#define FORGET() asm volatile("" ::: "memory")

// Parse what parse_begin set up. Writes the addresses, MACs, ports, tunnel_id, vlan_id,
// eth_type, ip_proto, tcp_flags, ttl, tos and flags of out. What the captured bytes don't tell
// stays 0, with L4_UNREADABLE when the frame promised it. frame has FRAME_BYTES + FRAME_SLACK.
//
// decapsulate: describe what the innermost readable tunnel carries. all_headers: look into
// tunnels all the same, for header_bytes.
INLINE void parse(struct parser *s, const u8 *frame, struct packet *out, u32 decapsulate,
		  u32 all_headers)
{
	s->max_tunnels = decapsulate || all_headers ? MAX_TUNNELS : 0;
	for (u32 pass = 0; pass < MAX_PASSES; pass++) {
		FORGET();
		if (s->step == AT_ETHERNET)
			at_ethernet(s, frame);
		FORGET();
		if (s->step == AT_RAW_IP)
			at_raw_ip(s, frame);
		FORGET();
		if (s->step == AT_TAG)
			at_tag(s, frame, out);
		FORGET();
		if (s->step == AT_TAG)
			at_tag(s, frame, out);
		FORGET();
		if (s->step == AT_NETWORK)
			at_network(s, frame);
		FORGET();
		if (s->step == AT_IPV4 || s->step == AT_IPV6 || s->step == AT_OTHER)
			begin_layer(s, frame, out, decapsulate);
		FORGET();
		if (s->step == AT_IPV4)
			at_ipv4(s, frame, out);
		FORGET();
		if (s->step == AT_IPV6)
			at_ipv6(s, frame, out);
		FORGET();
		if (s->step == AT_OTHER)
			at_other(s, out);
		FORGET();
		if (s->step == AT_EXTENSION)
			at_extension(s, frame, out);
		FORGET();
		if (s->step == AT_TRANSPORT)
			at_transport(s, frame, out);
		FORGET();
		if (s->step == AT_TUNNEL) {
			at_tunnel(s, frame, out);
			if (s->step == AT_TAG && s->eth_type == BRIDGED)
				s->step = AT_ETHERNET;
		}
		FORGET();
		if (s->step == DONE)
			break;
	}
	if (!decapsulate && s->tunnels)
		*out = s->outer;
}

#endif
