/* SPDX-License-Identifier: BSD-3-Clause */
/* doctor.h - what the files of 'sennit doctor' share: a finding, and the checks of RDMA. */
#ifndef TOOLS_DOCTOR_H
#define TOOLS_DOCTOR_H

#include "tools/command.h"

enum snti_verdict { SNTI_WELL, SNTI_WARN, SNTI_FAIL };

/* What a check found, and the line that mends it. */
struct snti_finding { char text[240]; const char *fix; char line[240]; };

/* Fills in @finding. @fix NULL: nothing has to be done. */
enum snti_verdict snti_find(enum snti_verdict verdict, struct snti_finding *finding, const char *fix, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
/* The same with a line made from what was found; follows snti_find. */
enum snti_verdict snti_mend(enum snti_verdict verdict, struct snti_finding *finding, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void snti_show(const char *name, enum snti_verdict verdict, const struct snti_finding *finding);

/* Checks what RDMA needs of the machine whose files are below @root ("": this one, and then also whether a port can be
 * opened). How many failed. */
int snti_doctor_rdma(const char *root);

#endif
