// Maps, constants and helpers as libbpf wants them.
#ifndef NETSPECTRA_PLATFORM_LIBBPF_H
#define NETSPECTRA_PLATFORM_LIBBPF_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, RING_BYTES);
} packets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct scratch);
} scratch SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct counters);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct control);
} control SEC(".maps");

struct flow_table {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, FLOW_ENTRIES);
	__type(key, struct flow_key);
	__type(value, struct flow_value);
} flows_a SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, u32);
	__array(values, struct flow_table);
} flow_tables SEC(".maps") = { .values = { &flows_a } };

// volatile: the compiler mustn't use the values that stand here, but the verifier sees the chosen
// ones.
const volatile struct knobs knobs = { .sampling_rate = 1 };
typedef const volatile struct rule fixed_rule;

// Dual licence: the helpers want a GPL-compatible one, and this file's home is Apache-2.0.
char LICENSE[] SEC("license") = "Dual BSD/GPL";

extern int LINUX_KERNEL_VERSION __kconfig;

#define PROGRAM(kind) SEC(kind)

// 5.18 brought helpers that reach beyond the first buffer of an XDP frame. The version is a
// constant to the verifier, so that older kernels never meet the calls.
INLINE int has_xdp_load_bytes(void)
{
	return LINUX_KERNEL_VERSION >= ((5 << 16) + (18 << 8));
}

INLINE struct scratch *my_scratch(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&scratch, &zero);
}

INLINE struct counters *my_counters(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&counters, &zero);
}

INLINE struct control *the_control(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&control, &zero);
}

INLINE void *current_flows(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&flow_tables, &zero);
}

INLINE struct packet *reserve_packet(void)
{
	return bpf_ringbuf_reserve(&packets, sizeof(struct packet), 0);
}

INLINE void submit_packet(struct packet *packet)
{
	bpf_ringbuf_submit(packet, BPF_RB_NO_WAKEUP);
}

#endif
