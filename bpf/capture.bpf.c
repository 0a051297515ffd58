// Packets at TC or XDP to records in a ring buffer, or to counts per flow. Never drops, changes or
// delays for user space: whatever goes wrong is counted, and the packet goes on.
#include "scratch.h"

#ifdef NETSPECTRA_BCC
#include "platform_bcc.h"
#else
#include "platform_libbpf.h"
#endif

enum { NEXT = -1 }; // TC_ACT_UNSPEC, TCX_NEXT: leave the verdict to the programs behind
enum { NS_PER_S = 1000000000 };

INLINE u32 end_matches(fixed_rule *rule, const u64 *addr, u32 port)
{
	return !(((addr[0] ^ rule->addr[0]) & rule->mask[0]) |
		 ((addr[1] ^ rule->addr[1]) & rule->mask[1])) &&
	       (!rule->has_ports || (port >= rule->port_low && port <= rule->port_high));
}

INLINE u32 matches(fixed_rule *rule, const struct packet *packet)
{
	return (!rule->has_proto || packet->ip_proto == rule->ip_proto) &&
	       (end_matches(rule, packet->src_addr, packet->src_port) ||
		end_matches(rule, packet->dst_addr, packet->dst_port));
}

// Unrolled, so that unused rules are dead code: to the verifier, and to BCC's compiler.
INLINE u32 of_interest(const struct packet *packet)
{
	u32 keep = knobs.keep_rules == 0;

#pragma unroll
	for (u32 i = 0; i < MAX_RULES; i++)
		if (i < knobs.keep_rules && !keep)
			keep = matches(&knobs.keep[i], packet);
#pragma unroll
	for (u32 i = 0; i < MAX_RULES; i++)
		if (i < knobs.drop_rules && keep)
			keep = !matches(&knobs.drop[i], packet);
	return keep;
}

// The time is taken when the record has its place, here and in send(): what isn't there when
// user space looks is then younger than the look.
INLINE int count_flow(struct scratch *s, u64 unix_offset_ns)
{
	struct packet *packet = &s->packet;
	struct flow_key *key = &s->key;
	struct flow_value *value;
	void *table = current_flows();
	u64 now_ns = bpf_ktime_get_ns();

	if (!table)
		return 0;
	key->src_addr[0] = packet->src_addr[0];
	key->src_addr[1] = packet->src_addr[1];
	key->dst_addr[0] = packet->dst_addr[0];
	key->dst_addr[1] = packet->dst_addr[1];
	key->second = (now_ns + unix_offset_ns) / NS_PER_S;
	key->if_index = packet->if_index;
	key->tunnel_id = packet->tunnel_id;
	key->src_port = packet->src_port;
	key->dst_port = packet->dst_port;
	key->vlan_id = packet->vlan_id;
	key->eth_type = packet->eth_type;
	key->ip_proto = packet->ip_proto;
	key->direction = packet->direction;
	key->capture_point = packet->capture_point;
	key->flags = packet->flags;

	value = bpf_map_lookup_elem(table, key);
	if (value && value->packets) {
		value->packets += packet->packets;
		value->bytes += packet->wire_bytes;
		value->last_ns = now_ns;
		value->tcp_flags |= packet->tcp_flags;
		return 1;
	}
	if (!value)
		value = &s->value;
	value->packets = packet->packets;
	value->bytes = packet->wire_bytes;
	value->first_ns = now_ns;
	value->last_ns = now_ns;
	__builtin_memcpy(value->src_mac, packet->src_mac, sizeof(value->src_mac));
	__builtin_memcpy(value->dst_mac, packet->dst_mac, sizeof(value->dst_mac));
	value->tcp_flags = packet->tcp_flags;
	value->ttl = packet->ttl;
	value->tos = packet->tos;
	return value != &s->value || !bpf_map_update_elem(table, key, value, BPF_ANY);
}

INLINE int send(const struct packet *packet)
{
	struct packet *place = reserve_packet();

	if (!place)
		return 0;
	*place = *packet;
	place->ts_ns = bpf_ktime_get_ns();
	submit_packet(place);
	return 1;
}

// Filter, count, sample and hand over the record in s->packet.
INLINE void record(struct scratch *s, struct counters *counters)
{
	u32 packets = s->packet.packets;
	struct control *control;

	counters->buffers++;
	if (!of_interest(&s->packet)) {
		counters->filtered += packets;
		return;
	}
	counters->seen += packets;
	counters->seen_bytes += s->packet.wire_bytes;
	if (knobs.sampling_rate > 1 && bpf_get_prandom_u32() % knobs.sampling_rate) {
		counters->sampled_out += packets;
		return;
	}
	control = the_control();
	if (control && control->aggregate) {
		if (count_flow(s, control->unix_offset_ns))
			return;
		counters->table_full += packets;
	}
	if (!send(&s->packet))
		counters->ring_full += packets;
}

// Hide from the compiler what it knows of a number: it would leave out comparisons that the
// verifier needs, or calculate with addresses, which the verifier forbids.
#define OPAQUE(x) asm volatile("" : "+r"(x))

// What is on the wire: of a coalesced buffer each segment, with all headers; a VLAN tag in each.
INLINE void measure_skb(struct __sk_buff *skb, struct packet *packet, u32 header_bytes)
{
	u32 length = skb->len, segments = 1;

	if (skb->gso_size) {
		segments = skb->gso_segs;
		if (!segments && length > header_bytes)
			segments = (length - header_bytes + skb->gso_size - 1) / skb->gso_size;
		if (segments > 1) {
			length += (segments - 1) * header_bytes;
			packet->flags |= COALESCED;
		} else {
			segments = 1;
		}
	}
	if (skb->vlan_present)
		length += 4 * segments;
	packet->wire_bytes = length;
	packet->packets = segments;
}

// Copy the first bytes, FRAME_BYTES at most, of however many pieces; how many, 0 if it can't.
INLINE u32 load_skb(struct __sk_buff *skb, u8 *frame)
{
	u64 bytes = skb->len < FRAME_BYTES ? skb->len : FRAME_BYTES;

	OPAQUE(bytes);
	if (bytes < 1 || bytes > FRAME_BYTES || bpf_skb_load_bytes(skb, 0, frame, bytes))
		return 0;
	return bytes;
}

INLINE int capture_skb(struct __sk_buff *skb, u32 first, u32 direction)
{
	struct scratch *s = my_scratch();
	struct counters *counters = my_counters();
	struct packet *packet;

	if (!s || !counters)
		return NEXT;
	packet = &s->packet;
	parse_begin(&s->parser, packet, first, load_skb(skb, s->frame));
	if (skb->vlan_present)
		parse_vlan(&s->parser, packet, skb->vlan_tci & 0xFFF);
	parse(&s->parser, s->frame, packet, knobs.decapsulate, skb->gso_size);

	measure_skb(skb, packet, s->parser.header_bytes);
	packet->if_index = skb->ifindex;
	packet->direction = direction;
	packet->capture_point = POINT_TC;
	record(s, counters);
	return NEXT;
}

PROGRAM("tc")
int tc_ingress(struct __sk_buff *skb)
{
	return capture_skb(skb, AT_ETHERNET, INGRESS);
}

PROGRAM("tc")
int tc_egress(struct __sk_buff *skb)
{
	return capture_skb(skb, AT_ETHERNET, EGRESS);
}

// For devices without a link header: tun, wireguard, ipip.
PROGRAM("tc")
int tc_ingress_ip(struct __sk_buff *skb)
{
	return capture_skb(skb, AT_RAW_IP, INGRESS);
}

PROGRAM("tc")
int tc_egress_ip(struct __sk_buff *skb)
{
	return capture_skb(skb, AT_RAW_IP, EGRESS);
}

INLINE u32 load_xdp(struct xdp_md *xdp, u8 *frame, u64 length)
{
	u64 bytes = length < FRAME_BYTES ? length : FRAME_BYTES;

	OPAQUE(bytes);
	if (bytes < 1 || bytes > FRAME_BYTES || bpf_xdp_load_bytes(xdp, 0, frame, bytes))
		return 0;
	return bytes;
}

// The same of what the pointers span, for kernels without bpf_xdp_load_bytes.
INLINE u32 load_linear(u8 *frame, const u8 *data, const u8 *data_end)
{
	u32 n = 0;

	while (n < FRAME_BYTES) {
		OPAQUE(data);
		if (data + 8 > data_end)
			break;
		*(u64 *)(frame + n) = *(const u64 *)data;
		data += 8;
		n += 8;
	}
	while (n < FRAME_BYTES) {
		OPAQUE(data);
		if (data + 1 > data_end)
			break;
		frame[n++] = *data++;
	}
	return n;
}

PROGRAM("xdp")
int xdp_capture(struct xdp_md *xdp)
{
	struct scratch *s = my_scratch();
	struct counters *counters = my_counters();
	const u8 *data = (const u8 *)(long)xdp->data, *data_end = (const u8 *)(long)xdp->data_end;
	u32 length = data_end - data, captured;
	struct packet *packet;

	if (!s || !counters)
		return XDP_PASS;
	if (has_xdp_load_bytes()) {
		length = bpf_xdp_get_buff_len(xdp);
		captured = load_xdp(xdp, s->frame, length);
	} else {
		captured = load_linear(s->frame, data, data_end);
	}
	packet = &s->packet;
	parse_begin(&s->parser, packet, AT_ETHERNET, captured);
	parse(&s->parser, s->frame, packet, knobs.decapsulate, 0);

	packet->wire_bytes = length;
	packet->packets = 1;
	packet->if_index = xdp->ingress_ifindex;
	packet->direction = INGRESS;
	packet->capture_point = POINT_XDP;
	record(s, counters);
	return XDP_PASS;
}
