// Creates under way: a retry of a create joins the one that runs, so that never two are made, and
// "the name is reserved" does not exist.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "base/context.h"
#include "base/mutex.h"

namespace runtimeservice {

// Thread-safe.
class Creations {
 public:
  using Work = std::function<absl::StatusOr<std::string>(const base::Context&)>;

  // Runs `work` for `name`, or waits for the one that runs, and returns the id that it made. `work`
  // runs on the thread of the first caller with a context that is cancelled once no caller is left;
  // a caller that goes earlier gets its own context's status. `group` (a pod's id) is what
  // CancelGroup knows it by.
  absl::StatusOr<std::string> Run(const base::Context& ctx, const std::string& name,
                                  const std::string& group, const Work& work);

  // Cancels what runs for `group`; the callers get CANCELLED. Does not wait.
  void CancelGroup(const std::string& group);

 private:
  struct Creation {
    std::string group;
    std::shared_ptr<base::Cancellation> cancellation = std::make_shared<base::Cancellation>();
    int callers = 0;
    bool done = false;
    absl::StatusOr<std::string> result;
  };
  // Waits until a creation of `name` that every caller left has been undone.
  absl::Status AwaitAbandoned(const base::Context& ctx, const std::string& name);
  absl::StatusOr<std::string> Join(const base::Context& ctx, std::shared_ptr<Creation> creation);

  base::Mutex mutex_;
  base::CondVar changed_;
  std::map<std::string, std::shared_ptr<Creation>> running_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace runtimeservice
