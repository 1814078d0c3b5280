// SPDX-License-Identifier: Apache-2.0
#include "concurrency/chaos_history.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <fstream>
#include <sstream>

namespace posthouse::test::chaos {

History::History(std::string const& path)
    : path_(path), fd_(::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600)) {
  if (!fd_) throw std::runtime_error("cannot open the history " + path + ": " + std::strerror(errno));
}

std::int64_t History::now() {
  return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

void History::note(std::string_view what, Fields fields) {
  std::string line = std::to_string(now()) + " " + std::to_string(::getpid()) + " " + std::string(what);
  for (auto const& [key, value] : fields) {
    line += std::string(" ") + key + "=";
    for (char const c : value) line += c == ' ' || c == '\n' || c == '\r' ? '_' : c;
  }
  line += '\n';
  if (::write(fd_.get(), line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
    throw std::runtime_error(std::string("cannot write the history: ") + std::strerror(errno));
  }
}

std::vector<Event> History::read(std::string const& path) {
  std::ifstream file(path);
  std::stringstream all;
  all << file.rdbuf();
  std::string const text = all.str();
  std::vector<Event> events;
  for (std::size_t at = 0;;) {
    auto const end = text.find('\n', at);
    if (end == std::string::npos) return events;
    std::istringstream line(text.substr(at, end - at));
    at = end + 1;
    Event event;
    line >> event.at >> event.pid >> event.what;
    for (std::string word; line >> word;) {
      auto const equals = word.find('=');
      if (equals == std::string::npos) continue;
      event.fields[word.substr(0, equals)] = word.substr(equals + 1);
    }
    events.push_back(std::move(event));
  }
}

std::string joined(std::vector<std::int64_t> const& numbers) {
  std::string text;
  for (auto const number : numbers) text += (text.empty() ? "" : ",") + std::to_string(number);
  return text;
}

std::vector<std::int64_t> numbers_of(std::string const& text) {
  std::vector<std::int64_t> numbers;
  std::istringstream in(text);
  for (std::string word; std::getline(in, word, ',');) numbers.push_back(std::stoll(word));
  return numbers;
}

}  // namespace posthouse::test::chaos
