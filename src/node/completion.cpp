// SPDX-License-Identifier: Apache-2.0
#include "node/completion.hpp"

#include <posthouse/error.hpp>
#include <utility>

#include "store/completion.hpp"

namespace posthouse::node {

std::optional<store::JobResult> result_of(std::int64_t token, int position, std::int64_t id,
                                          execute::Kept const* kept) {
  if (kept == nullptr) return std::nullopt;
  return store::JobResult{.token = token,
                          .position = position,
                          .id = id,
                          .has_value = kept->has_value,
                          .is_bytes = kept->is_bytes,
                          .data = kept->data,
                          .problem = kept->problem};
}

void tell_problem(base::Log const& log, std::int64_t id, execute::Kept const& kept) {
  if (kept.problem.empty()) return;
  log.warning(kept.has_value ? "result of a job is not whole" : "result of a job is not stored",
              {{"job", std::to_string(id)}, {"problem", kept.problem}});
}

std::function<void(Job const&, Transaction const&, execute::Kept const*)> completion(base::Log const& log,
                                                                                     std::string schema) {
  return [&log, schema = std::move(schema)](Job const& job, Transaction const& transaction, execute::Kept const* kept) {
    auto const& facts = job.facts();
    auto const result = result_of(facts.token, facts.position, facts.id, kept);
    if (kept != nullptr) tell_problem(log, facts.id, *kept);
    if (!store::complete(transaction, schema, facts.worker, facts.token, facts.position, facts.id,
                         result ? &*result : nullptr)) {
      throw LeaseLost("job " + std::to_string(facts.id) + " is no longer ours: nothing was completed");
    }
  };
}

}  // namespace posthouse::node
