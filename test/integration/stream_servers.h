// A pod with one container, and what the host sees of crisp-stream.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/cgroup.h"
#include "base/files.h"
#include "base/strings.h"
#include "test/client/stream_client.h"
#include "test/integration/fixture.h"

namespace test {

// Of ExecUrl.
inline const CommandOptions kOutput{.transport = Transport::kWebSocket, .err = false};

class StreamServersTest : public IntegrationTest {
 protected:
  void SetUp() override {
    IntegrationTest::SetUp();
    if (HasFatalFailure() || IsSkipped()) return;
    ASSERT_OK(Pull(kBusybox));
    ASSERT_OK_AND_ASSIGN(pod_, RunPod("pod"));
    ASSERT_OK_AND_ASSIGN(container_, RunContainer(pod_, "main", "exec sleep 4321"));
  }

  // Of a shell's script with its output.
  absl::StatusOr<std::string> ExecUrl(
      const std::string& script = "true",
      const std::function<void(cri::ExecRequest*)>& change = nullptr) const {
    cri::ExecRequest request;
    request.set_container_id(container_);
    request.add_cmd("sh");
    request.add_cmd("-c");
    request.add_cmd(script);
    request.set_stdout(true);
    if (change) change(&request);
    ASSIGN_OR_RETURN(const cri::ExecResponse response, client().Call(&RuntimeStub::Exec, request));
    return response.url();
  }
  // A new daemon with this line in [crisp.api].
  absl::Status RestartWith(const std::string& line) {
    RETURN_IF_ERROR(daemon().Crash());
    RETURN_IF_ERROR(environment().EditConfig("[crisp.api]", "[crisp.api]\n" + line));
    return daemon().Start();
  }
  std::vector<pid_t> InCgroup() const {
    return base::CgroupProcesses(environment().Get("CGROUP") + "/streams");
  }
  // The processes of crisp-stream, over all instances.
  std::vector<pid_t> Servers() const {
    std::vector<pid_t> found;
    for (const pid_t pid :
         base::CgroupProcesses(base::StrCat(environment().Get("CGROUP"), "/streams"))) {
      if (base::ReadFile(base::StrCat("/proc/", pid, "/comm")).value_or("") == "crisp-stream\n") {
        found.push_back(pid);
      }
    }
    return found;
  }
  std::vector<std::string> Folders() const {
    return base::ListDirectory(environment().Get("RUN_ROOT") + "/streams")
        .value_or(std::vector<std::string>{"?"});
  }
  static std::string HostOf(const std::string& url) { return url.substr(0, url.find("/exec/")); }

  std::string pod_;
  std::string container_;
};

}  // namespace test
