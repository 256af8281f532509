// SPDX-License-Identifier: BSD-3-Clause
// gloo.cc - Gloo over TCP, the only transport that it has. --detail INTERFACE:FOLDER, the folder for its start.
#include "perf/peers/harness.h"

#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <gloo/allgather.h>
#include <gloo/allreduce.h>
#include <gloo/alltoall.h>
#include <gloo/barrier.h>
#include <gloo/broadcast.h>
#include <gloo/gather.h>
#include <gloo/math.h>
#include <gloo/reduce.h>
#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/file_store.h>
#include <gloo/rendezvous/prefix_store.h>
#include <gloo/scatter.h>
#include <gloo/transport/tcp/device.h>

static std::shared_ptr<gloo::Context> context;
static std::function<void()> collective, meet;
static bool is_root;

// The options keep their buffers registered; the function keeps the options.
template <typename Options>
static std::shared_ptr<Options> make()
{
	auto options = std::make_shared<Options>(context);

	options->setTimeout(std::chrono::seconds(60));
	return options;
}

static void use_allreduce(const harness_call &call)
{
	auto options = make<gloo::AllreduceOptions>();

	options->setAlgorithm(gloo::AllreduceOptions::Algorithm::RING);
	if (!call.in_place)
		options->setInput(call.in, call.count);
	options->setOutput(call.out, call.count);
	options->setReduceFunction(static_cast<void (*)(void *, const void *, const void *, size_t)>(&gloo::sum<float>));
	collective = [options] { gloo::allreduce(*options); };
}

static void use_reduce(const harness_call &call)
{
	auto options = make<gloo::ReduceOptions>();

	options->setRoot(0);
	options->setInput(call.in, call.count);
	options->setOutput(call.out, call.count);
	options->setReduceFunction(static_cast<void (*)(void *, const void *, const void *, size_t)>(&gloo::sum<float>));
	collective = [options] { gloo::reduce(*options); };
}

static void use_broadcast(const harness_call &call)
{
	auto options = make<gloo::BroadcastOptions>();

	options->setRoot(0);
	options->setOutput(call.out, call.count);
	collective = [options] { gloo::broadcast(*options); };
}

static void use_allgather(const harness_call &call)
{
	auto options = make<gloo::AllgatherOptions>();

	if (!call.in_place)
		options->setInput(call.in, call.count);
	options->setOutput(call.out, call.count * context->size);
	collective = [options] { gloo::allgather(*options); };
}

static void use_alltoall(const harness_call &call)
{
	auto options = make<gloo::AlltoallOptions>();

	options->setInput(call.in, call.count * context->size);
	options->setOutput(call.out, call.count * context->size);
	collective = [options] { gloo::alltoall(*options); };
}

static void use_gather(const harness_call &call)
{
	auto options = make<gloo::GatherOptions>();

	options->setRoot(0);
	options->setInput(call.in, call.count);
	if (is_root)
		options->setOutput(call.out, call.count * context->size);
	collective = [options] { gloo::gather(*options); };
}

static void use_scatter(const harness_call &call)
{
	auto options = make<gloo::ScatterOptions>();
	std::vector<float *> blocks;

	for (int rank = 0; rank < context->size; rank++)
		blocks.push_back(call.in + rank * call.count);
	options->setRoot(0);
	if (is_root)
		options->setInputs(blocks, call.count);
	options->setOutput(call.out, call.count);
	collective = [options] { gloo::scatter(*options); };
}

// Those that stand in @in_place_too are defined for one buffer as well.
static int prepare(harness_call *call)
{
	static const struct { void (*use)(const harness_call &); bool in_place_too; } ways[HARNESS_COLLECTIVES] = {
		{ use_allreduce, true }, { nullptr, false }, { use_allgather, true }, { use_broadcast, true },
		{ use_reduce, false }, { use_alltoall, false }, { use_gather, false }, { use_scatter, false },
	};

	if (call->collective == HARNESS_BARRIER) {
		collective = meet;
		return 0;
	}
	const auto &way = ways[call->collective];
	if (!way.use || (call->in_place && !way.in_place_too))
		return 1;
	way.use(*call);
	return 0;
}

static int guarded(const std::function<void()> &function)
{
	try {
		function();
		return 0;
	} catch (const std::exception &failure) {
		fprintf(stderr, "gloo: %s\n", failure.what());
		return 1;
	}
}

static int run()
{
	return guarded(collective);
}

static int barrier()
{
	return guarded(meet);
}

static void finish()
{
	collective = nullptr;
}

static void connect(const harness_place *place)
{
	std::string detail = place->detail;
	size_t colon = detail.find(':');
	gloo::transport::tcp::attr attributes;

	attributes.iface = detail.substr(0, colon);
	gloo::rendezvous::FileStore store(detail.substr(colon + 1));
	gloo::rendezvous::PrefixStore named("compare", store);
	auto meeting = std::make_shared<gloo::rendezvous::Context>(place->rank, place->ranks);

	auto device = gloo::transport::tcp::CreateDevice(attributes);
	meeting->connectFullMesh(named, device);
	context = meeting;
	auto options = make<gloo::BarrierOptions>();
	meet = [options] { gloo::barrier(*options); };
}

int main(int argc, char **argv)
{
	const harness_place *place = harness_open(argc, argv);
	harness_peer peer = {};
	int result = 1;

	is_root = place->rank == 0;
	snprintf(peer.name, sizeof peer.name, "Gloo, ring");
	peer.has_threads = 1;
	peer.prepare = prepare;
	peer.run = run;
	peer.finish = finish;
	peer.barrier = barrier;
	if (!guarded([place] { connect(place); }))
		result = harness_run(&peer);
	fflush(stdout);
	_exit(result);   // its threads would still use what the end of the program takes away
}
