/* SPDX-License-Identifier: BSD-3-Clause */
/* network_event.h - what the network tells NCCL's profiler about a request: the plugin's number and the data beside it. */
#ifndef PLUGINS_NCCL_NETWORK_EVENT_H
#define PLUGINS_NCCL_NETWORK_EVENT_H

#include <stdint.h>

/* A private kind of network, so that nobody takes it for another's; version 1. */
#define SNTI_NCCL_EVENT_PLUGIN ((int64_t)0x100 << 16 | 1)

enum { SNTI_NCCL_EVENT_SEND, SNTI_NCCL_EVENT_RECEIVE };
struct snti_nccl_event { uint8_t type; int32_t device; uint64_t size; int32_t tag; };

#endif
