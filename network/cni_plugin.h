// Running one CNI plugin: environment and standard input in, result or error out (CNI 1.1.0,
// sections 2 and 4).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/context.h"
#include "base/json.h"
#include "base/launcher.h"
#include "base/subprocess.h"
#include "network/cni_result.h"

namespace network {

enum class CniCommand { kAdd, kDel, kStatus, kGc };

// The parameters of an ADD or DEL that are the same for every plugin of a network; the other
// commands have none.
struct CniParameters {
  std::string container_id;
  std::string netns;  // Empty for a DEL after the namespace went.
  std::string ifname;
  std::string args;  // CNI_ARGS: "K=V;K=V".
};

// The plugin binaries of a host. Immutable, thread-safe; `launcher` must outlive it.
class CniPlugins {
 public:
  CniPlugins(std::vector<std::string> directories, const base::Launcher& launcher)
      : directories_(std::move(directories)), launcher_(launcher) {}

  // The path of the first executable called `type` in the directories. INVALID_ARGUMENT when `type`
  // is no plain file name, FAILED_PRECONDITION when there is none.
  absl::StatusOr<std::string> Find(std::string_view type) const;

  // What a plugin that was run to its end said.
  struct Answer {
    CniError error;   // Code 0: success.
    std::string out;  // Standard output of a success.
  };

  // Runs the plugin `type` with `input` on its standard input. A plugin that is just being replaced
  // (ETXTBSY) is tried again for some seconds. An error here means that the plugin did not answer:
  // the errors of Find, DEADLINE_EXCEEDED and CANCELLED (it was killed), or it could not be
  // started.
  absl::StatusOr<Answer> Run(const base::Context& ctx, CniCommand command, std::string_view type,
                             const CniParameters& parameters, const base::Json& input) const;

 private:
  base::Command MakeCommand(CniCommand command, std::string path,
                            const CniParameters& parameters) const;

  const std::vector<std::string> directories_;
  const base::Launcher& launcher_;
};

// "ADD", "DEL", "STATUS", "GC".
std::string_view CniCommandName(CniCommand command);

}  // namespace network
