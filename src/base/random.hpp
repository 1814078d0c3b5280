// SPDX-License-Identifier: Apache-2.0
// Random numbers for jitter: from the operating system, so a forked child does not repeat its parent's.
//
// Thread safety: any thread.
#pragma once

#include <string>

namespace posthouse::base {

/// Evenly spread over [0, 1).
double random_unit();

/// A random UUID (version 4) in its usual form.
std::string random_uuid();

}  // namespace posthouse::base
