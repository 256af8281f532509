/* SPDX-License-Identifier: BSD-3-Clause */
/* launch.h - several ranks on this machine, without a launcher. */
#ifndef PERF_LAUNCH_H
#define PERF_LAUNCH_H

/* Runs @run as rank 0 here and as ranks 1 to @ranks - 1 in forked children, which die with this
 * process. Waits for all of them; a child that a signal ended is reported. Returns the worst of
 * what the ranks returned (0 is best); 1 when a child could not be made. */
int snti_launch(int ranks, int (*run)(void *arg, int rank), void *arg);
/* Binds this process to the core that is number @index (modulo their number) of those it may run on. */
void snti_launch_pin(int index);

/* Of the errors and warnings of the library that the ranks forked afterwards have alike, one is shown. */
void snti_launch_share_log(void);

#endif
