// A pod with one container that sleeps, and clients of its streams.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "test/client/stream_client.h"
#include "test/integration/fixture.h"

namespace test {

// What of crisp-stream must be as it was when all its sessions are over.
struct StreamServerState {
  pid_t pid = -1;
  size_t descriptors = 0;
  size_t processes = 0;  // In its cgroup, itself included.
  size_t threads = 0;
  int64_t pss_kib = 0;
};

class StreamsFixture : public IntegrationTest {
 protected:
  using IntegrationTest::IntegrationTest;
  void SetUp() override;

  // A URL for a command; its streams are those of `options`.
  absl::StatusOr<std::string> ExecUrl(const std::vector<std::string>& command,
                                      const CommandOptions& options,
                                      std::string_view container = "") const;
  absl::StatusOr<std::string> AttachUrl(const CommandOptions& options,
                                        std::string_view container = "") const;
  absl::StatusOr<std::string> ForwardUrl(std::string_view pod = "") const;

  // A session of `sh -c SCRIPT` in the container.
  absl::StatusOr<std::unique_ptr<CommandSession>> OpenExec(std::string_view script,
                                                           const CommandOptions& options = {},
                                                           std::string_view container = "") const;
  // The same to its end, with `input` as its stdin, which is ended where the protocol can.
  absl::StatusOr<CommandOutcome> RunExec(std::string_view script, CommandOptions options = {},
                                         std::string_view input = "") const;
  absl::StatusOr<std::unique_ptr<CommandSession>> OpenAttach(const CommandOptions& options = {},
                                                             std::string_view container = "") const;

  // crictl with its usual arguments; `input` is its stdin.
  absl::StatusOr<base::CommandResult> Crictl(const std::vector<std::string>& arguments,
                                             std::string_view input = "") const;

  // Of crisp-stream's current instance; the pid is -1 when none runs.
  pid_t StreamServer() const;
  StreamServerState StreamState() const;
  // Waits until nothing of any session is left: processes, threads and descriptors as in `idle`.
  testing::AssertionResult ReturnsTo(const StreamServerState& idle) const;
  // Whether crisp-stream has at most so much memory (PSS); sanitizers' shadows are not counted.
  testing::AssertionResult ServerHasAtMost(int64_t kib) const;
  // Paths below the instances' folders that belong to sessions.
  std::vector<std::string> SessionFolders() const;
  // Whether a process of the pod has this argument in its command line.
  bool Runs(std::string_view argument, std::string_view pod_name = "pod") const;

  // The network namespace that the daemon pinned for the pod.
  std::string NetworkNamespace(std::string_view pod) const;

  const std::string& pod() const { return pod_; }
  const std::string& container() const { return container_; }

 private:
  std::string pod_;
  std::string container_;
};

// Options for `transport` with these streams.
CommandOptions Streams(Transport transport, std::string_view streams);

// Bytes without a pattern that a shorter period could fake; the same for the same seed.
class TestBytes {
 public:
  explicit TestBytes(uint64_t seed) : state_(seed) {}
  // The next `size` bytes, valid until the next call.
  std::string_view Next(size_t size);

 private:
  uint64_t state_;
  std::string buffer_;
};

// Megabytes that the tests of long transfers move (CRISP_STREAM_MEGABYTES).
int64_t TransferBytes();

}  // namespace test
