/* SPDX-License-Identifier: BSD-3-Clause */
/* ucx_library.c - libucp, loaded when a port is opened, and its configuration. */
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ucs/debug/log_def.h>

#include "base/log.h"
#include "transport/ucx.h"

struct ucx_functions ucx;
static int is_loaded;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* What UCX would print to standard output, where reports go. It says failures before we know whether they
 * are any: they are for who looks for the cause of ours. */
static ucs_log_func_rc_t log_line(const char *file, unsigned line, const char *function, ucs_log_level_t level,
				  const ucs_log_component_config_t *component, const char *format, va_list arguments)
{
	char text[512];

	(void)file, (void)line, (void)function, (void)component;
	if (level == UCS_LOG_LEVEL_FATAL)
		return UCS_LOG_FUNC_RC_CONTINUE;
	vsnprintf(text, sizeof text, format, arguments);
	snti_log(level <= UCS_LOG_LEVEL_ERROR ? SNT_LOG_INFO : SNT_LOG_DEBUG, "UCX: %s", text);
	return UCS_LOG_FUNC_RC_STOP;
}

/* A user who set up UCX's log gets that. */
static void route_log(void *library)
{
	void (*push)(ucs_log_func_t handler);

	*(void **)&push = dlsym(library, "ucs_log_push_handler");
	if (push && !getenv("UCX_LOG_LEVEL") && !getenv("UCX_LOG_FILE"))
		push(log_line);
}

/* The name of one that is missing; NULL: all are there. */
static const char *find_functions(void *library)
{
	static const struct { const char *name; size_t offset; } table[] = {
#define ROW(name) { "ucp_" #name, offsetof(struct ucx_functions, name) },
		UCX_FUNCTIONS(ROW)
#undef ROW
		{ "ucs_status_string", offsetof(struct ucx_functions, status_string) },
	};

	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		void *function = dlsym(library, table[i].name);

		if (!function)
			return table[i].name;
		memcpy((char *)&ucx + table[i].offset, &function, sizeof function);
	}
	return NULL;
}

/* UCX takes over the signals of crashes while it is loaded, to print a trace and to freeze. They are the
 * program's, unless the user asked UCX for that. */
static void *open_library(void)
{
	struct sigaction before[32];
	int keep = !getenv("UCX_HANDLE_ERRORS") && !getenv("UCX_ERROR_SIGNALS");
	void *library;

	for (int i = 1; keep && i < 32; i++)
		sigaction(i, NULL, &before[i]);
	library = dlopen("libucp.so.0", RTLD_NOW | RTLD_LOCAL);
	for (int i = 1; keep && library && i < 32; i++)
		if (i != SIGKILL && i != SIGSTOP)
			sigaction(i, &before[i], NULL);
	return library;
}

/* Never closed: UCX does not survive that. */
static int load(char *text, size_t size)
{
	void *library = open_library();
	const char *missing = library ? find_functions(library) : NULL;

	if (!library)
		snprintf(text, size, "%s (Debian: libucx0)", dlerror());
	else if (missing)
		snprintf(text, size, "libucp.so.0 lacks %s: version 1.13 or newer is needed", missing);
	else
		route_log(library);
	return library && !missing ? 0 : SNT_EUNSUPPORTED;
}

int ucx_library(char *text, size_t size)
{
	int status = 0;

	pthread_mutex_lock(&lock);
	if (!is_loaded)
		status = load(text, size);
	is_loaded |= !status;
	pthread_mutex_unlock(&lock);
	if (!status)
		snprintf(text, size, "libucp %s", ucx.get_version_string());
	return status;
}

int ucx_load(void)
{
	char text[200];
	int status = ucx_library(text, sizeof text);

	return status ? snti_fail(status, "ucx: cannot be used: %s", text) : 0;
}

/* What we would rather have, where the user has not said what it is to be. */
static void prefer(ucp_config_t *config, const char *name, const char *value)
{
	char variable[64];

	snprintf(variable, sizeof variable, "UCX_%s", name);
	if (!getenv(variable) && ucx.config_modify(config, name, value) != UCS_OK)
		snti_log(SNT_LOG_DEBUG, "ucx: this version does not know %s", variable);
}

/* UCX 1.13 wants the name without its transport, later ones with it; what a version does not know it takes and leaves. */
static void prefer_of_tcp(ucp_config_t *config, const char *name, const char *value)
{
	char whole[64];

	snprintf(whole, sizeof whole, "TCP_%s", name);
	prefer(config, name, value);
	prefer(config, whole, value);
}

static int is_set(const char *variable)
{
	return getenv(variable) != NULL;
}

/* Where its own choice costs much, measured in docs/performance.md. Both sides have to agree on these; they do, as they
 * are of one version of this transport. */
static void prefer_speed(ucp_config_t *config)
{
	/* A small message and our head in the queue itself, without a buffer beside it. */
	if (!is_set("UCX_POSIX_FIFO_ELEM_SIZE") && !is_set("UCX_SYSV_FIFO_ELEM_SIZE"))
		prefer(config, "MM_FIFO_ELEM_SIZE", "256");
	/* As much for each system call as a socket has; what is sent at once has to fit into what is read at once. */
	if (!is_set("UCX_TCP_TX_SEG_SIZE") && !is_set("UCX_TCP_RX_SEG_SIZE")) {
		prefer_of_tcp(config, "TX_SEG_SIZE", "64K");
		prefer_of_tcp(config, "RX_SEG_SIZE", "512K");
	}
}

/* RoCE has the class, InfiniBand a service level. */
static void mark(ucp_config_t *config, unsigned class)
{
	char text[8];
	int failed;

	snprintf(text, sizeof text, "%u", class);
	failed = ucx.config_modify(config, "IB_TRAFFIC_CLASS", text) != UCS_OK;
	if (class <= 15)
		failed |= ucx.config_modify(config, "IB_SL", text) != UCS_OK;
	if (failed)
		snti_log(SNT_LOG_DEBUG, "ucx: this version cannot be told a traffic class");
}

int ucx_context(const struct snti_port_options *options, ucp_context_h *context, char *text, size_t size)
{
	ucp_params_t params = {
		.field_mask = UCP_PARAM_FIELD_FEATURES | UCP_PARAM_FIELD_REQUEST_SIZE | UCP_PARAM_FIELD_NAME,
		.features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP,
		.request_size = sizeof(struct ucx_request),
		.name = "sennit",
	};
	ucp_config_t *config;
	ucs_status_t status = ucx.config_read(NULL, NULL, &config);

	if (status != UCS_OK) {
		snprintf(text, size, "the UCX_ variables cannot be read: %s", ucx.status_string(status));
		return SNT_EINVAL;
	}
	/* Folds take the bytes in order. */
	prefer(config, "MAX_EAGER_LANES", "1");
	/* Our control connections tell who is gone, and UCX's own question takes its time in every poll. */
	prefer(config, "KEEPALIVE_INTERVAL", "inf");
	/* Else shared memory does not count where a peer may die. */
	prefer(config, "MM_ERROR_HANDLING", "y");
	prefer_speed(config);
	/* On one host nothing is to be reached from outside; but who chose transports may mean a card's loop. */
	if (options->local_only && !getenv("UCX_TLS"))
		prefer(config, "NET_DEVICES", "lo");
	else if (options->device && ucx.config_modify(config, "NET_DEVICES", options->device) != UCS_OK)
		snti_log(SNT_LOG_DEBUG, "ucx: this version cannot be told to use %s alone", options->device);
	if (options->traffic_class)
		mark(config, *options->traffic_class);
	status = ucx.init_version(UCP_API_MAJOR, UCP_API_MINOR, &params, config, context);
	ucx.config_release(config);
	if (status == UCS_OK)
		return 0;
	snprintf(text, size, "no context: %s (UCX_TLS, UCX_NET_DEVICES)", ucx.status_string(status));
	return SNT_EDEVICE;
}
