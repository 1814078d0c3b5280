// SPDX-License-Identifier: Apache-2.0
// The text format of Prometheus (version 0.0.4), family by family.
//
// Thread safety: one thread at a time.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace posthouse::monitor {

class Exposition {
 public:
  using Label = std::pair<std::string_view, std::string_view>;
  using Labels = std::vector<Label>;

  /// Begins a family: all samples of it follow. `type`: counter, gauge or histogram.
  void family(std::string_view name, std::string_view type, std::string_view help);
  /// A sample of the family; `suffix` as "_bucket". Label values may have any bytes.
  void sample(Labels const& labels, double value, std::string_view suffix = {});

  [[nodiscard]] std::string const& text() const noexcept { return text_; }

 private:
  std::string text_{};
  std::string name_{};
};

}  // namespace posthouse::monitor
