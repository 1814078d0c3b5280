// SPDX-License-Identifier: Apache-2.0
#include "monitor/source.hpp"

#include <algorithm>
#include <utility>

namespace posthouse::monitor {

std::string_view name_of(State state) noexcept {
  switch (state) {
    case State::starting:
      return "starting";
    case State::serving:
      return "serving";
    case State::down:
      return "down";
    case State::not_installed:
      return "not_installed";
    case State::refused:
      return "refused";
    case State::stopping:
      break;
  }
  return "stopping";
}

void Sources::add(Source source) {
  remove(source.name);
  auto entry = std::make_shared<Entry>(std::move(source));
  std::lock_guard const lock(mutex_);
  auto const at = std::find_if(entries_.begin(), entries_.end(),
                               [&](auto const& other) { return other->source.name > entry->source.name; });
  entries_.insert(at, std::move(entry));
}

void Sources::remove(std::string_view name) {
  std::shared_ptr<Entry> gone;
  {
    std::lock_guard const lock(mutex_);
    auto const at =
        std::find_if(entries_.begin(), entries_.end(), [&](auto const& other) { return other->source.name == name; });
    if (at == entries_.end()) return;
    gone = std::move(*at);
    entries_.erase(at);
  }
  std::lock_guard const lock(gone->gate);
  gone->removed = true;
}

std::vector<std::shared_ptr<Sources::Entry>> Sources::all() const {
  std::lock_guard const lock(mutex_);
  return entries_;
}

}  // namespace posthouse::monitor
