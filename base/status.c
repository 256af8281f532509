/* SPDX-License-Identifier: BSD-3-Clause */
/* status.c - names and sentences for the numbers of the public API. */
#include "include/sennit.h"

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "0.1.0"
#endif

const char *snt_version(void)
{
	return PACKAGE_VERSION;
}

const char *snt_status_name(int status)
{
	switch (status) {
#define NAME(name, value, scope, sentence) case name: return #name;
	SNT_STATUS_LIST(NAME)
#undef NAME
	case SNT_OK: return "SNT_OK";
	case SNT_BUSY: return "SNT_BUSY";
	default: return "unknown";
	}
}

const char *snt_status_sentence(int status)
{
	switch (status) {
#define SENTENCE(name, value, scope, sentence) case name: return sentence;
	SNT_STATUS_LIST(SENTENCE)
#undef SENTENCE
	case SNT_OK: return "done";
	case SNT_BUSY: return "not yet";
	default: return "an unknown status";
	}
}

enum snt_scope snt_status_scope(int status)
{
	switch (status) {
#define SCOPE(name, value, scope, sentence) case name: return scope;
	SNT_STATUS_LIST(SCOPE)
#undef SCOPE
	/* A failure nobody knows may have broken anything. */
	default: return status < 0 ? SNT_SCOPE_PROCESS : SNT_SCOPE_NONE;
	}
}

static const struct { size_t size; const char *name; } types[SNT_TYPE_COUNT] = {
	[SNT_INT8] = { 1, "int8" },       [SNT_UINT8] = { 1, "uint8" },
	[SNT_INT16] = { 2, "int16" },     [SNT_UINT16] = { 2, "uint16" },
	[SNT_INT32] = { 4, "int32" },     [SNT_UINT32] = { 4, "uint32" },
	[SNT_INT64] = { 8, "int64" },     [SNT_UINT64] = { 8, "uint64" },
	[SNT_FLOAT16] = { 2, "float16" }, [SNT_BFLOAT16] = { 2, "bfloat16" },
	[SNT_FLOAT32] = { 4, "float32" }, [SNT_FLOAT64] = { 8, "float64" },
};

static const char *const folds[SNT_FOLD_COUNT] = {
	[SNT_SUM] = "sum", [SNT_PRODUCT] = "product", [SNT_MIN] = "min", [SNT_MAX] = "max",
	[SNT_AVERAGE] = "average", [SNT_BAND] = "band", [SNT_BOR] = "bor", [SNT_BXOR] = "bxor",
	[SNT_LAND] = "land", [SNT_LOR] = "lor", [SNT_LXOR] = "lxor",
};

static const char *const collectives[SNT_COLLECTIVE_COUNT] = {
	[SNT_ALLREDUCE] = "allreduce", [SNT_REDUCE_SCATTER] = "reduce_scatter",
	[SNT_ALLGATHER] = "allgather", [SNT_BROADCAST] = "broadcast", [SNT_REDUCE] = "reduce",
	[SNT_ALLTOALL] = "alltoall", [SNT_GATHER] = "gather", [SNT_SCATTER] = "scatter",
	[SNT_BARRIER] = "barrier", [SNT_SEND] = "send", [SNT_RECV] = "recv",
};

size_t snt_type_size(enum snt_type type)
{
	return (unsigned)type < SNT_TYPE_COUNT ? types[type].size : 0;
}

const char *snt_type_name(enum snt_type type)
{
	return (unsigned)type < SNT_TYPE_COUNT ? types[type].name : "unknown";
}

const char *snt_fold_name(enum snt_fold fold)
{
	return (unsigned)fold < SNT_FOLD_COUNT ? folds[fold] : "unknown";
}

const char *snt_collective_name(enum snt_collective collective)
{
	return (unsigned)collective < SNT_COLLECTIVE_COUNT ? collectives[collective] : "unknown";
}
