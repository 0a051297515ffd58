// A CPU's workspace: too large for the 512 bytes of stack. Programs of one CPU never interrupt
// each other: they run with softirqs held off.
#ifndef NETSPECTRA_SCRATCH_H
#define NETSPECTRA_SCRATCH_H

#include "parse.h"

struct scratch {
	u8 frame[FRAME_BYTES + FRAME_SLACK];
	struct parser parser;
	struct packet packet;
	struct flow_key key;
	struct flow_value value;
};

#endif
