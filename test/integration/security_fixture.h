// For tests of what a container's process is and may.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "base/files.h"
#include "base/strings.h"
#include "test/integration/fixture.h"

namespace test {

using Security = cri::LinuxContainerSecurityContext;
using Profile = cri::SecurityProfile;
using Change = std::function<void(Security*)>;

class SecurityTest : public IntegrationTest {
 protected:
  using IntegrationTest::IntegrationTest;

  cri::CreateContainerRequest Request(std::string_view pod, std::string_view name,
                                      const Change& change) const {
    cri::CreateContainerRequest request =
        ContainerRequest(pod, name, "cat /proc/self/status; id; exec sleep 4321");
    change(request.mutable_config()->mutable_linux()->mutable_security_context());
    return request;
  }
  // A running container with this security context.
  absl::StatusOr<std::string> Run(std::string_view pod, std::string_view name,
                                  const Change& change) const {
    ASSIGN_OR_RETURN(std::string container, Create(Request(pod, name, change)));
    RETURN_IF_ERROR(Start(container));
    return container;
  }
  absl::StatusOr<std::string> RunPrivilegedPod(std::string_view name) const {
    cri::RunPodSandboxRequest request = PodRequest(name);
    request.mutable_config()->mutable_linux()->mutable_security_context()->set_privileged(true);
    return RunPod(request);
  }

  // What a command prints in the container, both streams, and its code if that is not 0.
  std::string Output(std::string_view container, std::string_view script) const {
    const auto result = Exec(container, {"sh", "-c", std::string(script)});
    if (!result.ok()) return result.status().ToString();
    std::string text = result->stdout() + result->stderr();
    if (result->exit_code() != 0) text += base::StrCat("exit ", result->exit_code());
    return text;
  }
  // A line of /proc/self/status as a process of ExecSync has it, without its name.
  std::string StatusLine(std::string_view container, std::string_view name) const {
    std::string text = Output(container, base::StrCat("grep '^", name, ":' /proc/self/status"));
    return text.substr(std::min(text.size(), name.size() + 2));
  }
  // The same of the container's first process.
  bool FirstProcessHas(std::string_view pod, std::string_view name, std::string_view line) const {
    return LogGets(pod, base::StrCat(name, ".log"), line);
  }

  // Such a container is refused with `code`, the error names `field`, and nothing is made.
  void ExpectRefused(std::string_view pod, absl::StatusCode code, const std::string& field,
                     const Change& change) {
    const absl::StatusOr<std::string> created = Create(Request(pod, "refused", change));
    EXPECT_THAT(created, HasCode(code));
    EXPECT_THAT(std::string(created.status().message()), testing::HasSubstr(field));
    EXPECT_THAT(*Containers(), testing::IsEmpty()) << field;
    const auto left = base::ListDirectory(environment().Get("ROOT") + "/records/containers");
    EXPECT_TRUE(left.ok() && left->empty()) << field;
  }
};

}  // namespace test
