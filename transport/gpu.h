/* SPDX-License-Identifier: BSD-3-Clause */
/* gpu.h - what transports ask of CUDA's driver, which is loaded when somebody first does. */
#ifndef TRANSPORT_GPU_H
#define TRANSPORT_GPU_H

#include <stddef.h>
#include <stdint.h>

/* Whether the driver is there and some GPU exports its memory as dmabufs: 0, or SNT_EUNSUPPORTED and why in *@why. */
int snti_gpu_exports(const char **why);
/* A descriptor for [data, data + size), the caller's, and where in it @data is. 0 or a failure that has been noted. */
int snti_gpu_export(const void *data, size_t size, int *fd, uint64_t *offset);

#endif
