// The URLs that were given out and not used yet: random tokens, each good once and for a while.
#pragma once

#include <cstddef>
#include <deque>
#include <map>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/clock.h"
#include "runtimeservice/streaming/sessions.h"

namespace streaming {

// For the loop's thread.
class Tokens final : public SessionSource {
 public:
  // At most `max_waiting` wait at a time, with at most kMaxWaitingBytes of sessions; each is good
  // for `lifetime`.
  Tokens(size_t max_waiting, absl::Duration lifetime)
      : max_waiting_(max_waiting), lifetime_(lifetime) {}

  // What a waiting session holds of memory is bounded as well as their number.
  static constexpr size_t kMaxWaitingBytes = 64 << 20;

  // The path of the session's URL: "/exec/TOKEN", "/attach/…" or "/portforward/…", with 128 random
  // bits in the token. RESOURCE_EXHAUSTED, naming the setting, when too many wait;
  // INVALID_ARGUMENT for a session of no kind.
  absl::StatusOr<std::string> Add(stream::Session session);

  absl::StatusOr<stream::Session> Redeem(std::string_view kind, std::string_view token) override;

  // Those that are still good.
  size_t size();
  // When the first of them ends; InfiniteFuture when there is none.
  base::SteadyTime NextEnd();
  void Clear();

 private:
  struct Waiting {
    stream::Session session;
    std::string kind;
    size_t bytes = 0;
    base::SteadyTime end = base::SteadyTime::InfiniteFuture();
  };
  void DropExpired();

  const size_t max_waiting_;
  const absl::Duration lifetime_;
  // By the token's digest: how long a look-up takes says nothing of how much of a token is right.
  std::map<std::string, Waiting> waiting_;
  std::deque<std::pair<base::SteadyTime, std::string>> ends_;  // Of all, used ones included.
  size_t bytes_ = 0;
};

}  // namespace streaming
