/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs_rails.h - what rails ask a port of verbs that others need not know. */
#ifndef TRANSPORT_VERBS_RAILS_H
#define TRANSPORT_VERBS_RAILS_H

#include "transport/transport.h"

/* The network that the port's GID is in, for comparison; the first byte is 0 where it is not known. */
void verbs_rail_network(const struct snti_port *port, unsigned char *net, size_t size);
/* Whether @theirs is known to be in the same one. */
int  verbs_rail_is_near(const struct snti_port *port, const struct snti_address *theirs);
int  verbs_rail_is_down(const struct snti_port *port);
/* 1: it was down too long, and is looked at again in the next poll. */
int  verbs_rail_rests(struct snti_port *port);

#endif
