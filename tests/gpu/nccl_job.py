# SPDX-License-Identifier: BSD-3-Clause
"""One rank of a PyTorch job over NCCL: every collective with its result checked, then the time of allreduce by size."""
import os
import sys
import time

import torch
import torch.distributed as dist

rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
torch.cuda.set_device(0)  # all ranks share one GPU: NCCL_HOSTID keeps them apart
COUNTS = (1, 1000, 65536, 1 << 20, 3 << 20)


def values(of_rank, count):
    """Small whole numbers, so that sums are exact."""
    return (torch.arange(count, device="cuda") % 61 + of_rank).float()


def expect(what, got, want):
    if not torch.equal(got, want):
        sys.exit(f"rank {rank}: {what} of {want.numel()} elements is wrong")


def check(count):
    mine = values(rank, count)
    total = sum(values(r, count) for r in range(size))

    out = mine.clone()
    dist.all_reduce(out)
    expect("all_reduce", out, total)

    out = torch.empty(size * count, device="cuda")
    dist.all_gather_into_tensor(out, mine)
    expect("all_gather", out, torch.cat([values(r, count) for r in range(size)]))

    out = torch.empty(count, device="cuda")
    dist.reduce_scatter_tensor(out, torch.cat([values(rank + 7 * r, count) for r in range(size)]))
    expect("reduce_scatter", out, sum(values(r + 7 * rank, count) for r in range(size)))

    out = torch.empty(size * count, device="cuda")
    dist.all_to_all_single(out, torch.cat([values(rank + 7 * r, count) for r in range(size)]))
    expect("all_to_all", out, torch.cat([values(r + 7 * rank, count) for r in range(size)]))

    out = mine.clone()
    dist.broadcast(out, size - 1)
    expect("broadcast", out, values(size - 1, count))

    if rank == 0:
        dist.send(mine, 1)
    elif rank == 1:
        out = torch.empty(count, device="cuda")
        dist.recv(out, 0)
        expect("recv", out, values(0, count))


def measure(count):
    data = torch.ones(count, device="cuda")
    times = []
    for turn in range(25):
        torch.cuda.synchronize()
        dist.barrier(device_ids=[0])
        start = time.perf_counter()
        dist.all_reduce(data)
        torch.cuda.synchronize()
        if turn >= 5:
            times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2] * 1e6


dist.init_process_group("nccl")
if rank == 0:
    print(f"on {torch.cuda.get_device_name(0)}", flush=True)
for elements in COUNTS:
    check(elements)
for elements in (2, 1024, 16384, 262144, 4194304):
    median = measure(elements)
    if rank == 0:
        print(f"time {elements * 4} {median:.1f}", flush=True)
print(f"rank {rank} of {size}: right, torch {torch.__version__}, NCCL {'.'.join(map(str, torch.cuda.nccl.version()))}", flush=True)
dist.destroy_process_group()
