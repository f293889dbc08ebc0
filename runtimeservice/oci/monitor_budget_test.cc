// What a monitor may cost.
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>

#include "absl/strings/numbers.h"
#include "base/files.h"
#include "base/strings.h"
#include "gmock/gmock.h"
#include "runtimeservice/oci/container_fixture.h"

namespace runtimeservice {
namespace {

using ::base::StrCat;

class MonitorBudgetTest : public ContainerFixture {
 protected:
  // A runtime whose container is a process that says something and waits.
  std::vector<std::string> CheapRuntime() {
    const std::string script = directory() + "/cheap-runtime";
    EXPECT_TRUE(base::ReplaceFile(script,
                                  "#!/bin/sh\n"
                                  "while test $# -gt 0; do\n"
                                  "  test \"$1\" = --pid-file && file=$2\n"
                                  "  shift\n"
                                  "done\n"
                                  "test -z \"$file\" && exit 0\n"
                                  "(while ! test -e \"$0.go\"; do sleep 0.02; done\n"
                                  "seq 1 200; printf unfinished; exec sleep 60) &\n"
                                  "printf %s $! > \"$file\"\n",
                                  0700, base::Durability::kVolatile)
                    .ok());
    return {script};
  }
  // Proportional set size in KiB.
  static int64_t Pss(pid_t pid) {
    const std::string text = *base::ReadFile(StrCat("/proc/", pid, "/smaps_rollup"));
    const size_t at = text.find("\nPss:");
    return at == std::string::npos ? 0 : std::strtoll(text.c_str() + at + 5, nullptr, 10);
  }
};

TEST_F(MonitorBudgetTest, TwentyMonitorsCostAtMost20KibEach) {
  constexpr int kMonitors = 20;
  std::vector<MonitorConnection> connections;
  MonitorSpec spec = PrepareScript("");
  spec.runtime = CheapRuntime();
  for (int i = 0; i < kMonitors; ++i) {
    spec.state_dir = StrCat(state_dir(), "/", i);
    spec.log_path = StrCat(directory(), "/log/", i);
    ASSERT_TRUE(base::MakeDirectories(spec.state_dir).ok());
    auto monitor = NewMonitor::Launch(Patience(), launcher(), spec);
    ASSERT_TRUE(monitor.ok()) << monitor.status();
    ASSERT_TRUE(monitor->Create(Patience()).ok());
    ASSERT_TRUE(monitor->Acknowledge().ok());
    auto connection = MonitorConnection::Connect(Patience(), spec.state_dir);
    ASSERT_TRUE(connection.ok()) << connection.status();
    connections.push_back(*std::move(connection));
  }
  ASSERT_TRUE(
      base::ReplaceFile(spec.runtime[0] + ".go", "", 0600, base::Durability::kVolatile).ok());
  for (int i = 0; i < kMonitors; ++i) {
    ASSERT_TRUE(Eventually([&] {
      const auto log = base::ReadFile(StrCat(directory(), "/log/", i));
      return log.ok() && log->find("unfinished\n") != std::string::npos;
    }));
  }
  int64_t total = 0;
  const bool within_budget = Eventually([&] {
    total = 0;
    for (const MonitorConnection& connection : connections) {
      total += Pss(connection.state().monitor_pid);
    }
    return total <= 20 * kMonitors;
  });
  std::cout << "PSS of a monitor: " << total / kMonitors << " KiB\n";
  EXPECT_TRUE(within_budget) << total / kMonitors << " KiB each";
  EXPECT_GT(total, 0);
  for (MonitorConnection& connection : connections) {
    ASSERT_EQ(syscall(SYS_pidfd_send_signal, connection.pidfd(), SIGKILL, nullptr, 0), 0);
    pollfd entry = {connection.fd(), POLLRDHUP, 0};
    EXPECT_EQ(poll(&entry, 1, 10'000), 1);
  }
}

}  // namespace
}  // namespace runtimeservice
