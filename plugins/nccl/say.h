/* SPDX-License-Identifier: BSD-3-Clause */
/* say.h - a line for NCCL's log, from whichever of the plugins in this file. */
#ifndef PLUGINS_NCCL_SAY_H
#define PLUGINS_NCCL_SAY_H

#include <stdarg.h>
#include <stdio.h>

#include "plugins/nccl/abi.h"

/* As "WHO: text"; @logger may be NULL. */
__attribute__((format(printf, 5, 0)))
static inline void snti_nccl_say(nccl_logger logger, int level, unsigned long subsystems, const char *who, const char *format,
				 va_list arguments)
{
	char text[512];

	if (!logger)
		return;
	vsnprintf(text, sizeof text, format, arguments);
	logger(level, subsystems, who, 0, "%s: %s", who, text);
}

#endif
