#include "daemon/notify.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>

#include "base/strings.h"

namespace crispd {
namespace {

// A bound datagram socket; "@name" for the abstract namespace.
base::UniqueFd Listen(const std::string& name) {
  base::UniqueFd listener(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  name.copy(address.sun_path, sizeof(address.sun_path) - 1);
  if (name[0] == '@') address.sun_path[0] = '\0';
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
  EXPECT_EQ(bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), length), 0);
  return listener;
}

std::string Receive(const base::UniqueFd& listener) {
  char buffer[256];
  const ssize_t size = recv(listener.get(), buffer, sizeof(buffer), MSG_DONTWAIT);
  return size < 0 ? "nothing" : std::string(buffer, static_cast<size_t>(size));
}

TEST(NotifierTest, SendsOneDatagramToAPath) {
  const std::string path = base::StrCat("/tmp/crisp-notify-", getpid());
  unlink(path.c_str());
  const base::UniqueFd listener = Listen(path);
  ASSERT_TRUE(Notifier(path, absl::InfiniteDuration()).Send("READY=1\nMAINPID=7").ok());
  EXPECT_EQ(Receive(listener), "READY=1\nMAINPID=7");
  unlink(path.c_str());
}

TEST(NotifierTest, SendsToTheAbstractNamespace) {
  const std::string name = base::StrCat("@crisp-notify-", getpid());
  const base::UniqueFd listener = Listen(name);
  ASSERT_TRUE(Notifier(name, absl::InfiniteDuration()).Send("STOPPING=1").ok());
  EXPECT_EQ(Receive(listener), "STOPPING=1");
}

TEST(NotifierTest, WithoutASocketNothingIsSent) {
  EXPECT_TRUE(Notifier("", absl::InfiniteDuration()).Send("READY=1").ok());
}

TEST(NotifierTest, ASocketThatIsGoneIsAnError) {
  EXPECT_FALSE(Notifier("/nonexistent/socket", absl::InfiniteDuration()).Send("READY=1").ok());
  EXPECT_FALSE(
      Notifier("/" + std::string(200, 'x'), absl::InfiniteDuration()).Send("READY=1").ok());
}

TEST(NotifierTest, TheEnvironmentIsReadAndCleared) {
  setenv("NOTIFY_SOCKET", "/run/x", 1);
  setenv("WATCHDOG_USEC", "60000000", 1);
  setenv("WATCHDOG_PID", base::StrCat(getpid()).c_str(), 1);
  EXPECT_EQ(Notifier::FromEnvironment().watchdog_interval(), absl::Seconds(30));
  EXPECT_EQ(getenv("NOTIFY_SOCKET"), nullptr);
  EXPECT_EQ(getenv("WATCHDOG_USEC"), nullptr);
}

TEST(NotifierTest, AWatchdogForAnotherProcessIsNotOurs) {
  setenv("WATCHDOG_USEC", "60000000", 1);
  setenv("WATCHDOG_PID", "1", 1);
  EXPECT_EQ(Notifier::FromEnvironment().watchdog_interval(), absl::InfiniteDuration());
}

}  // namespace
}  // namespace crispd
