// Pulls as processes of the node: where they run, and what they do while a registry is mute.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <thread>

#include "base/cgroup.h"
#include "base/files.h"
#include "base/strings.h"
#include "base/unique_fd.h"
#include "test/integration/fixture.h"

namespace test {
namespace {

// A server on loopback that takes connections and never says a word.
class MuteServer {
 public:
  MuteServer() : socket_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    auto* const generic = reinterpret_cast<sockaddr*>(&address);
    EXPECT_EQ(bind(socket_.get(), generic, size), 0);
    EXPECT_EQ(listen(socket_.get(), 16), 0);
    EXPECT_EQ(getsockname(socket_.get(), generic, &size), 0);
    name_ = base::StrCat("127.0.0.1:", ntohs(address.sin_port));
  }
  const std::string& name() const { return name_; }

 private:
  const base::UniqueFd socket_;
  std::string name_;
};

class PullsTest : public IntegrationTest {
 protected:
  void Prepare() override {
    ASSERT_OK(environment().EditConfig(
        "[crisp.image]\n", base::StrCat("[crisp.image]\npull_cgroup = \"", Cgroup(), "\"\n")));
  }
  std::string Cgroup() const { return base::StrCat("/", environment().name(), "/limited"); }

  // Begins a pull that hangs until its caller gives up after `timeout`.
  absl::Status PullFromNowhere(absl::Duration timeout) const {
    cri::PullImageRequest request;
    request.mutable_image()->set_image(nowhere_.name() + "/image");
    return client().Call(&ImageStub::PullImage, request, timeout).status();
  }

  static std::vector<std::string> Lines(const std::string& path) {
    const absl::StatusOr<std::string> text = base::ReadFile(path);
    std::vector<std::string> lines;
    for (size_t begin = 0; text.ok() && begin < text->size();) {
      const size_t end = std::min(text->find('\n', begin), text->size());
      lines.push_back(text->substr(begin, end - begin));
      begin = end + 1;
    }
    return lines;
  }

  MuteServer nowhere_;
};

TEST_F(PullsTest, RunInACgroupOfTheirOwnWhoseLimitsHold) {
  absl::Status end;
  std::thread caller([&] { end = PullFromNowhere(absl::Seconds(60)); });
  // Every process of the worker is there, in every hierarchy: a limit on any controller counts.
  const std::string group = base::StrCat(Cgroup(), "/crisp-pulls");
  EXPECT_TRUE(Eventually([&] {
    const std::vector<std::string> directories = base::CgroupDirectories(group);
    return !directories.empty() &&
           std::all_of(directories.begin(), directories.end(), [](const std::string& directory) {
             return Lines(directory + "/cgroup.procs").size() >= 2;
           });
  }));
  // A crash of the daemon leaves no worker there.
  EXPECT_OK(daemon().Crash());
  caller.join();
  EXPECT_OK(daemon().Start());
  EXPECT_TRUE(base::CgroupProcesses(group).empty());
  EXPECT_OK(Pull("crisp-test/busybox"));
}

TEST_F(PullsTest, ACallerThatGivesUpEndsThePullAtOnce) {
  EXPECT_THAT(PullFromNowhere(absl::Seconds(1)), HasCode(absl::StatusCode::kDeadlineExceeded));
  const std::string group = base::StrCat(Cgroup(), "/crisp-pulls");
  EXPECT_TRUE(Eventually([&] { return base::CgroupProcesses(group).empty(); }));
}

}  // namespace
}  // namespace test
