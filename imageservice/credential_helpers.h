// Programs that know credentials: docker-credential-NAME
// (github.com/docker/docker-credential-helpers).
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/context.h"
#include "base/launcher.h"
#include "base/mutex.h"
#include "imageservice/worker/protocol.h"

namespace imageservice {

// INVALID_ARGUMENT unless `name` is made of lower-case letters, digits and "-", at most 64. An
// empty name is fine: it stands for no helper.
absl::Status CheckHelperName(std::string_view name);

// Runs helpers. Thread-safe; Get blocks its thread, and no lock is held meanwhile.
class CredentialHelpers {
 public:
  struct Config {
    // Where programs are looked for, in this order. They come before the system's in PATH.
    std::vector<std::string> directories;
    // "NAME=value": what a helper finds in its environment beside PATH.
    std::vector<std::string> environment;
    absl::Duration timeout = absl::Seconds(10);
  };

  // `launcher` must outlive it.
  CredentialHelpers(Config config, const base::Launcher* launcher)
      : config_(std::move(config)), launcher_(launcher) {}

  // What the helper says for a server: `docker-credential-NAME get` with the server's name on its
  // input. An answer is good for a minute, so that the pulls of many pods ask once, and that those
  // of one image show the same. nullopt: it knows none. FAILED_PRECONDITION when it is missing,
  // fails or answers nonsense, DEADLINE_EXCEEDED when it takes longer than the timeout; these name
  // helper and server, and repeat nothing of what the helper said.
  absl::StatusOr<std::optional<worker::Credentials>> Get(const base::Context& ctx,
                                                         const std::string& name,
                                                         const std::string& server);

 private:
  struct Remembered {
    std::optional<worker::Credentials> credentials;
    absl::Time until;
  };

  absl::StatusOr<std::optional<worker::Credentials>> Run(const base::Context& ctx,
                                                         const std::string& name,
                                                         const std::string& server) const;

  const Config config_;
  const base::Launcher* const launcher_;

  base::Mutex mutex_;
  std::map<std::pair<std::string, std::string>, Remembered> remembered_ ABSL_GUARDED_BY(mutex_);
};

// The answer of a helper. INVALID_ARGUMENT, without its text, for anything else.
absl::StatusOr<worker::Credentials> ParseHelperAnswer(std::string_view json);

}  // namespace imageservice
