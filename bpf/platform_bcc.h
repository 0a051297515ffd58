// Maps, constants and helpers as BCC wants them. It turns map.call() into helper calls only where
// it sees them in plain functions, never in macros.
#ifndef NETSPECTRA_PLATFORM_BCC_H
#define NETSPECTRA_PLATFORM_BCC_H

BPF_RINGBUF_OUTPUT(packets, RING_BYTES / 4096);
BPF_PERCPU_ARRAY(scratch, struct scratch, 1);
BPF_PERCPU_ARRAY(counters, struct counters, 1);
BPF_F_TABLE("array", u32, struct control, control, 1, BPF_F_MMAPABLE);
BPF_TABLE("percpu_hash", struct flow_key, struct flow_value, flows_a, FLOW_ENTRIES);
BPF_ARRAY_OF_MAPS(flow_tables, "flows_a", 1); // user space puts flows_a in

#ifndef KNOBS
#define KNOBS { .sampling_rate = 1 }
#endif
static const struct knobs knobs = KNOBS;
typedef const struct rule fixed_rule;

#define BPF_LICENSE Dual BSD/GPL

#define PROGRAM(kind)

// BCC can't ask for frames of several buffers, so what the pointers span is all.
INLINE int has_xdp_load_bytes(void)
{
	return 0;
}

INLINE struct scratch *my_scratch(void)
{
	u32 zero = 0;

	return scratch.lookup(&zero);
}

INLINE struct counters *my_counters(void)
{
	u32 zero = 0;

	return counters.lookup(&zero);
}

INLINE struct control *the_control(void)
{
	u32 zero = 0;

	return control.lookup(&zero);
}

INLINE void *current_flows(void)
{
	u32 zero = 0;

	return flow_tables.lookup(&zero);
}

INLINE struct packet *reserve_packet(void)
{
	return packets.ringbuf_reserve(sizeof(struct packet));
}

INLINE void submit_packet(struct packet *packet)
{
	packets.ringbuf_submit(packet, BPF_RB_NO_WAKEUP);
}

#endif
