/* SPDX-License-Identifier: BSD-3-Clause */
/* transport.c - the list of transports, and ports and conns in memory of their own. */
#include "transport/transport.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"

const struct snti_transport *const snti_transports[] = {
	&snti_shm_transport, &snti_rails_verbs_transport, &snti_verbs_transport, &snti_ucx_transport, &snti_rails_transport,
	&snti_tcp_transport, NULL
};

const struct snti_transport *snti_transport_find(const char *name)
{
	for (int i = 0; snti_transports[i]; i++)
		if (!strcmp(snti_transports[i]->name, name))
			return snti_transports[i];
	return NULL;
}

/* Whole lines of their own, so that two threads' ports never share one. */
static void *make(size_t size)
{
	size = (size + 127) & ~(size_t)127;

	void *object = aligned_alloc(128, size);

	if (object)
		memset(object, 0, size);
	return object;
}

int snti_port_open(const struct snti_transport *transport, const struct snti_port_options *options,
		   struct snti_port **port)
{
	struct snti_port *made = make(transport->port_size);

	*port = NULL;
	if (!made)
		return snti_fail(SNT_ENOMEM, "no memory for a %s port", transport->name);
	made->ops = transport;
	made->wake_fd = -1;

	int status = transport->open(made, options);

	if (status) {
		snti_port_close(made);
		return status;
	}
	*port = made;
	return 0;
}

void snti_port_close(struct snti_port *port)
{
	if (!port)
		return;
	port->ops->close(port);
	free(port);
}

int snti_conn_open(struct snti_port *port, const struct snti_address *mine, const struct snti_address *theirs,
		   uint64_t ident, int peer, struct snti_conn **conn)
{
	struct snti_conn *made = make(port->ops->conn_size);

	*conn = NULL;
	if (!made)
		return snti_fail(SNT_ENOMEM, "no memory for a %s connection to rank %d", port->ops->name, peer);
	made->ops = port->ops;
	made->port = port;
	made->ident = ident;
	made->peer = peer;
	made->status = SNT_BUSY;

	int status = theirs ? port->ops->connect(made, theirs) : port->ops->accept(made, mine);

	if (status) {
		snti_conn_close(made);
		return status;
	}
	*conn = made;
	return 0;
}

void snti_conn_close(struct snti_conn *conn)
{
	if (!conn)
		return;
	conn->ops->hang_up(conn);
	free(conn);
}
