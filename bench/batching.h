// SPDX-License-Identifier: MIT
#pragma once

// da3-bench batching: batches that the engine chooses against fixed ones. Arguments after the word; the exit
// status.
int bench_batching(int argc, char** argv);
