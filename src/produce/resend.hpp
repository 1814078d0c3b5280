// SPDX-License-Identifier: Apache-2.0
// An enqueue whose reply was lost: find out, or send it again, for a bounded time.
//
// Thread safety: one thread at a time for each object.
#pragma once

#include <chrono>
#include <functional>

namespace posthouse::produce {

/// Calls `again` after growing pauses until it says that it is done (true), for `limit` at most; false: time is up.
/// What a broken connection, a time-out or a busy lock makes it throw is taken for "not yet"; another error ends it as
/// well, since it says nothing about the first call.
bool until_resolved(std::chrono::milliseconds limit,
                    std::function<bool(std::chrono::milliseconds remaining)> const& again);

}  // namespace posthouse::produce
