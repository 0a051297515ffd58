// Does nothing but fill the ring, so that its reader is what is measured, not the parser. Maps
// and constants are those that the loader expects.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "../../bpf/abi.h"

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, RING_BYTES);
} packets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct counters);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 1);
	__type(key, struct flow_key);
	__type(value, struct flow_value);
} flows_a SEC(".maps");

const volatile struct knobs knobs;

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("tc")
int tc_ingress(struct __sk_buff *skb)
{
	u32 zero = 0;
	struct counters *mine = bpf_map_lookup_elem(&counters, &zero);
	struct packet *packet;

	if (!mine)
		return -1;
	mine->seen++;
	packet = bpf_ringbuf_reserve(&packets, sizeof(*packet), 0);
	if (!packet) {
		mine->ring_full++;
		return -1;
	}
	__builtin_memset(packet, 0, sizeof(*packet));
	packet->ts_ns = bpf_ktime_get_ns();
	packet->packets = 1;
	packet->wire_bytes = skb->len + knobs.sampling_rate;
	bpf_ringbuf_submit(packet, BPF_RB_NO_WAKEUP);
	return -1;
}
