// The fixture of the integration tests: a private daemon, and the CRI's verbs in one line each.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/status_macros.h"
#include "test/client/cri_client.h"
#include "test/integration/environment.h"

#define ASSERT_OK(expr)                                          \
  do {                                                           \
    const absl::Status crisp_test_status = test::StatusOf(expr); \
    ASSERT_TRUE(crisp_test_status.ok()) << crisp_test_status;    \
  } while (false)

#define EXPECT_OK(expr)                                          \
  do {                                                           \
    const absl::Status crisp_test_status = test::StatusOf(expr); \
    EXPECT_TRUE(crisp_test_status.ok()) << crisp_test_status;    \
  } while (false)

#define ASSERT_OK_AND_ASSIGN(lhs, expr) \
  ASSERT_OK_AND_ASSIGN_INNER(CRISP_CONCAT(crisp_test_result_, __LINE__), lhs, expr)
#define ASSERT_OK_AND_ASSIGN_INNER(result, lhs, expr) \
  auto result = (expr);                               \
  ASSERT_TRUE(result.ok()) << result.status();        \
  lhs = *std::move(result)

namespace test {

inline absl::Status StatusOf(absl::Status status) { return status; }
template <typename T>
absl::Status StatusOf(const absl::StatusOr<T>& result) {
  return result.status();
}

// The image names below the registry of the test.
inline constexpr char kBusybox[] = "crisp-test/busybox:latest";

// Pods and containers of the tests are named by their callers; uid and namespace are the same for
// all. Every test case has a daemon of its own.
class IntegrationTest : public testing::Test {
 protected:
  explicit IntegrationTest(std::string runtime = "crun") : runtime_(std::move(runtime)) {}
  void SetUp() override;
  void TearDown() override;

  // Called between the making of the environment and the first start of the daemon.
  virtual void Prepare() {}

  const Environment& environment() const { return *environment_; }
  Daemon& daemon() { return *daemon_; }
  const CriClient& client() const { return *client_; }

  // "127.0.0.1:PORT/NAME".
  std::string Image(std::string_view name) const;
  // Pulls it; the image's id.
  absl::StatusOr<std::string> Pull(std::string_view name) const;

  // A valid request for a pod with a log directory and a cgroup of this test.
  cri::RunPodSandboxRequest PodRequest(std::string_view name) const;
  absl::StatusOr<std::string> RunPod(const cri::RunPodSandboxRequest& request) const;
  absl::StatusOr<std::string> RunPod(std::string_view name) const;
  absl::Status StopPod(std::string_view pod) const;
  absl::Status RemovePod(std::string_view pod) const;
  absl::StatusOr<cri::PodSandboxStatus> PodStatus(std::string_view pod) const;
  absl::StatusOr<std::vector<cri::PodSandbox>> Pods(const cri::PodSandboxFilter& filter = {}) const;

  // A valid request for a container of `pod` that runs a shell script; its log is NAME.log.
  cri::CreateContainerRequest ContainerRequest(std::string_view pod, std::string_view name,
                                               std::string_view script) const;
  absl::StatusOr<std::string> Create(const cri::CreateContainerRequest& request) const;
  absl::Status Start(std::string_view container) const;
  // Creates and starts a container that runs `script`.
  absl::StatusOr<std::string> RunContainer(std::string_view pod, std::string_view name,
                                           std::string_view script) const;
  absl::Status StopContainer(std::string_view container, int64_t seconds) const;
  absl::Status RemoveContainer(std::string_view container) const;
  absl::StatusOr<cri::ContainerStatus> Status(std::string_view container) const;
  absl::StatusOr<std::vector<cri::Container>> Containers(
      const cri::ContainerFilter& filter = {}) const;
  absl::StatusOr<cri::ExecSyncResponse> Exec(std::string_view container,
                                             const std::vector<std::string>& command,
                                             int64_t timeout_seconds = 30) const;
  // Waits until the container is EXITED; its status.
  absl::StatusOr<cri::ContainerStatus> WaitForExit(std::string_view container) const;

  // The directory of a pod's logs, the content of a log (empty when there is none), and whether a
  // line with this text on this stream comes within some seconds.
  std::string LogDirectory(std::string_view pod_name) const;
  std::string ReadLog(std::string_view pod_name, std::string_view file) const;
  bool LogGets(std::string_view pod_name, std::string_view file, std::string_view text,
               std::string_view stream = "stdout") const;

  // Processes of the pod's cgroup, over all its containers.
  std::vector<pid_t> Processes(std::string_view pod_name) const;
  std::string CgroupParent(std::string_view pod_name) const;

  // kill -9, and a new daemon on the same state.
  absl::Status CrashAndRestart();

  // Everything on the host that carries this environment's name and that the daemon should have
  // removed with its last pod: mounts, pins, cgroups, directories, addresses, processes. Empty when
  // all is clean.
  std::vector<std::string> Leftovers() const;

 private:
  const std::string runtime_;
  std::optional<Environment> environment_;
  std::optional<Daemon> daemon_;
  std::optional<CriClient> client_;
  std::string registry_address_;
};

// The number in the environment variable `name`, such as CRISP_CRASH_ROUNDS, or else `fallback`.
unsigned EnvironmentNumber(const char* name, unsigned fallback);

// Matches a status or StatusOr with this code.
MATCHER_P(HasCode, code, "") {
  const absl::Status status = StatusOf(arg);
  *result_listener << status;
  return status.code() == code;
}

}  // namespace test
