// What the programs and user space share: every struct is read byte by byte on the other side,
// so all padding is named, and tests/bpf/test_layout.py compares the offsets.
#ifndef NETSPECTRA_ABI_H
#define NETSPECTRA_ABI_H

#include <linux/types.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the packet record is little endian, and so must the machine be"
#endif

enum capture_point { POINT_FILE, POINT_XDP, POINT_TC };
enum direction { UNKNOWN, INGRESS, EGRESS };
enum packet_flag { LATER_FRAGMENT = 1, L4_UNREADABLE = 2, DECAPSULATED = 4, COALESCED = 8 };

// The packet record; field meanings are in schemas/README.md. In the ring ts_ns is
// CLOCK_MONOTONIC, which user space turns into Unix time.
struct packet {
	u64 ts_ns;
	u64 src_addr[2]; // as the 16 bytes on the wire; IPv4 as ::ffff:a.b.c.d
	u64 dst_addr[2];
	u8 src_mac[6];
	u8 dst_mac[6];
	u16 src_port;
	u16 dst_port;
	u32 wire_bytes;
	u32 packets;
	u32 if_index;
	u32 tunnel_id;
	u16 vlan_id;
	u16 eth_type;
	u8 ip_proto;
	u8 tcp_flags;
	u8 ttl;
	u8 tos;
	u8 direction;
	u8 capture_point;
	u8 flags;
	u8 reserved;
	u32 duration_us;
};

// Totals of one CPU. All but seen_bytes and buffers are in packets: a coalesced buffer counts
// its segments. seen == records' packets + ring_full + sampled_out.
struct counters {
	u64 seen; // reached the capture point and passed the filter
	u64 seen_bytes; // on the wire
	u64 ring_full; // lost
	u64 sampled_out;
	u64 filtered; // not of interest, not part of seen
	u64 table_full; // not lost: gone to the ring instead of the flow table
	u64 buffers; // skbs or XDP frames that reached the capture point
	u64 reserved;
};

// Switches that user space may turn while programs run.
struct control {
	u32 aggregate; // 1: packets are counted per flow and second, not sent
	u32 pad;
	u64 unix_offset_ns; // Unix time minus CLOCK_MONOTONIC
	u64 reserved[6];
};

// Matches when the protocol does, and address and port of one end do.
struct rule {
	u64 addr[2]; // 16 bytes of an IPv6 or mapped IPv4 address
	u64 mask[2]; // 0: any
	u16 port_low;
	u16 port_high;
	u8 ip_proto;
	u8 has_proto;
	u8 has_ports;
	u8 pad;
};

#define MAX_RULES 8

// Chosen before loading: constants to the verifier, which drops the code that they rule out.
struct knobs {
	u32 sampling_rate; // record one buffer in so many, at random; 0 or 1: all
	u32 decapsulate; // describe what tunnels carry
	u32 keep_rules; // how many of keep are set; 0: keep all
	u32 drop_rules;
	struct rule keep[MAX_RULES];
	struct rule drop[MAX_RULES];
};

struct flow_key {
	u64 src_addr[2];
	u64 dst_addr[2];
	u64 second; // Unix time
	u32 if_index;
	u32 tunnel_id;
	u16 src_port;
	u16 dst_port;
	u16 vlan_id;
	u16 eth_type;
	u8 ip_proto;
	u8 direction;
	u8 capture_point;
	u8 flags;
	u8 pad[4];
};

// What one CPU saw of a flow in the second; all zero where it saw nothing.
struct flow_value {
	u64 packets;
	u64 bytes;
	u64 first_ns; // CLOCK_MONOTONIC
	u64 last_ns;
	u8 src_mac[6]; // of the first packet, like ttl and tos
	u8 dst_mac[6];
	u8 tcp_flags; // OR of all packets
	u8 ttl;
	u8 tos;
	u8 pad;
};

#ifndef RING_BYTES
#define RING_BYTES (16 << 20)
#endif
#ifndef FLOW_ENTRIES
#define FLOW_ENTRIES 65536 // of a flow table
#endif

#endif
