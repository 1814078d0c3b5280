// SPDX-License-Identifier: Apache-2.0
// Random numbers for jitter: from the operating system, so a forked child does not repeat its parent's.
//
// Thread safety: any thread.
#pragma once

namespace posthouse::base {

/// Evenly spread over [0, 1).
double random_unit();

}  // namespace posthouse::base
