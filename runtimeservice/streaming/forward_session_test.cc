// Against servers of the test's own, in a network namespace that it makes.
#include "runtimeservice/streaming/forward_session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "base/files.h"
#include "base/strings.h"
#include "base/unique_fd.h"
#include "runtimeservice/streaming/test_forward_client.h"

namespace streaming {
namespace {

using ::base::StrCat;
using ::base::UniqueFd;
using ::testing::HasSubstr;

// A socket that listens on a free port of the loopback address, and the port.
struct Listener {
  UniqueFd fd;
  uint16_t port = 0;
};

Listener Listen(int family) {
  Listener listener;
  listener.fd.Reset(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in6 six = {};
  six.sin6_family = AF_INET6;
  six.sin6_addr = in6addr_loopback;
  sockaddr_in four = {};
  four.sin_family = AF_INET;
  four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* address =
      family == AF_INET6 ? reinterpret_cast<sockaddr*>(&six) : reinterpret_cast<sockaddr*>(&four);
  socklen_t size = family == AF_INET6 ? sizeof(six) : sizeof(four);
  EXPECT_EQ(bind(listener.fd.get(), address, size), 0) << std::strerror(errno);
  EXPECT_EQ(listen(listener.fd.get(), 16), 0);
  EXPECT_EQ(getsockname(listener.fd.get(), address, &size), 0);
  listener.port = ntohs(family == AF_INET6 ? six.sin6_port : four.sin_port);
  return listener;
}

std::string ReadAll(int fd) {
  std::string all;
  char part[65536];
  for (ssize_t length = 0; (length = read(fd, part, sizeof(part))) > 0;) {
    all.append(part, static_cast<size_t>(length));
  }
  return all;
}

class ForwardSessionTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::signal(SIGPIPE, SIG_IGN);
    std::thread maker([this] {
      made_ = unshare(CLONE_NEWNET) == 0;
      if (!made_) {
        return;
      }
      ifreq loopback = {};
      std::strcpy(loopback.ifr_name, "lo");
      loopback.ifr_flags = IFF_UP;
      const UniqueFd control(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
      EXPECT_EQ(ioctl(control.get(), SIOCSIFFLAGS, &loopback), 0);
      four_ = Listen(AF_INET);
      six_ = Listen(AF_INET6);
      space_.Reset(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    });
    maker.join();
    if (!made_) {
      GTEST_SKIP() << "SKIP: the right to make a network namespace";
    }
    session_.set_pod_id("p1");
    session_.set_network_namespace(StrCat("/proc/self/fd/", space_.get()));
  }
  void TearDown() override {
    if (server_.joinable()) {
      server_.join();
    }
  }

  // Accepts one connection on `listener` and gives it to `serve`, on a thread.
  void Serve(const Listener& listener, std::function<void(int fd)> serve) {
    server_ = std::thread([fd = listener.fd.get(), serve = std::move(serve)] {
      const UniqueFd accepted(accept4(fd, nullptr, nullptr, SOCK_CLOEXEC));
      serve(accepted.get());
    });
  }
  // Runs the session and `test` beside it; when `test` is over the client leaves.
  void Run(Task<> test) {
    ForwardSession forward(loop_, session_, client_, absl::Milliseconds(300));
    bool ended = false;
    Spawn(loop_, forward.Run(), [&] { ended = true; });
    Spawn(loop_, std::move(test), [&] { client_.Abort(); });
    loop_.run_for(std::chrono::seconds(60));
    EXPECT_TRUE(ended) << "the session does not end";
  }

  asio::io_context loop_;
  stream::PortForwardSession session_;
  TestForwardClient client_{loop_};
  bool made_ = false;
  Listener four_;
  Listener six_;
  UniqueFd space_;
  std::thread server_;
};

TEST_F(ForwardSessionTest, BytesGoBothWaysAndEachEndsForItself) {
  std::string sent(10 << 20, '\0');
  for (size_t i = 0; i < sent.size(); ++i) {
    sent[i] = static_cast<char>((i * 2654435761u) >> 13);
  }
  // Answers only when all is there: the client's half-close must arrive.
  Serve(four_, [](int fd) {
    const std::string all = ReadAll(fd);
    EXPECT_TRUE(base::WriteAll(fd, all, "connection").ok());
  });
  const auto test = [&]() -> Task<> {
    const auto connection = client_.Connect(four_.port);
    for (size_t at = 0; at < sent.size(); at += 32 << 10) {
      connection->Send(sent.substr(at, 32 << 10));
    }
    connection->HalfClose();
    co_await connection->Until([&] { return connection->finished; });
    EXPECT_TRUE(connection->received == sent);
    EXPECT_EQ(connection->failure, "");
  };
  Run(test());
}

TEST_F(ForwardSessionTest, AServerThatListensOnIpv6OnlyIsReached) {
  Serve(six_, [](int fd) { EXPECT_TRUE(base::WriteAll(fd, "six", "connection").ok()); });
  const auto test = [&]() -> Task<> {
    const auto connection = client_.Connect(six_.port);
    co_await connection->Until([&] { return connection->finished; });
    EXPECT_EQ(connection->received, "six");
  };
  Run(test());
}

TEST_F(ForwardSessionTest, ThePortOfTheHostIsNotThePods) {
  const Listener host = Listen(AF_INET);
  const auto test = [&]() -> Task<> {
    const auto connection = client_.Connect(host.port);
    co_await connection->Until([&] { return !connection->failure.empty(); });
    EXPECT_EQ(connection->failure, StrCat("port ", host.port, ": connection refused in pod p1"));
  };
  Run(test());
}

TEST_F(ForwardSessionTest, WithoutANamespaceItIsTheHosts) {
  session_.clear_network_namespace();
  const Listener host = Listen(AF_INET);
  Serve(host, [](int fd) { EXPECT_TRUE(base::WriteAll(fd, "host", "connection").ok()); });
  const auto test = [&]() -> Task<> {
    const auto connection = client_.Connect(host.port);
    co_await connection->Until([&] { return connection->finished; });
    EXPECT_EQ(connection->received, "host");
  };
  Run(test());
}

TEST_F(ForwardSessionTest, APodThatWasStoppedHasNoPortsAlsoNotTheHosts) {
  std::string folder = ::testing::TempDir() + "/forward-session-XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  session_.clear_network_namespace();
  session_.set_pod_folder(folder);
  const Listener host = Listen(AF_INET);
  Serve(host, [](int fd) { EXPECT_TRUE(base::WriteAll(fd, "host", "connection").ok()); });
  const auto test = [&]() -> Task<> {
    const auto before = client_.Connect(host.port);
    co_await before->Until([&] { return before->finished; });
    EXPECT_EQ(before->received, "host");
    EXPECT_TRUE(base::RemoveTree(folder).ok());
    const auto after = client_.Connect(host.port);
    co_await after->Until([&] { return !after->failure.empty(); });
    EXPECT_EQ(after->failure, StrCat("port ", host.port, ": nothing runs any more in pod p1"));
  };
  Run(test());
}

TEST_F(ForwardSessionTest, OneRefusedPortHurtsNoOtherConnection) {
  Serve(four_, [](int fd) { EXPECT_TRUE(base::WriteAll(fd, ReadAll(fd), "connection").ok()); });
  const auto test = [&]() -> Task<> {
    const auto good = client_.Connect(four_.port);
    const auto bad = client_.Connect(1);
    co_await bad->Until([&] { return !bad->failure.empty(); });
    good->Send("still here");
    good->HalfClose();
    co_await good->Until([&] { return good->finished; });
    EXPECT_EQ(good->received, "still here");
  };
  Run(test());
}

TEST_F(ForwardSessionTest, ANamespaceThatIsGoneIsAnErrorOfTheConnection) {
  session_.set_network_namespace("/run/netns/none-of-this-name");
  const auto test = [&]() -> Task<> {
    const auto connection = client_.Connect(80);
    co_await connection->Until([&] { return !connection->failure.empty(); });
    EXPECT_THAT(connection->failure, HasSubstr("/run/netns/none-of-this-name: No such file"));
  };
  Run(test());
}

TEST_F(ForwardSessionTest, WithoutAThreadItIsAnErrorOfTheConnection) {
  pthread_attr_t plain;
  ASSERT_EQ(pthread_getattr_default_np(&plain), 0);
  pthread_attr_t impossible = plain;
  pthread_attr_setstacksize(&impossible, size_t{1} << 60);
  ASSERT_EQ(pthread_setattr_default_np(&impossible), 0);
  const auto test = [&]() -> Task<> {
    const auto connection = client_.Connect(four_.port);
    co_await connection->Until([&] { return !connection->failure.empty(); });
    EXPECT_THAT(connection->failure, HasSubstr("start a thread: Resource temporarily unavailable"));
  };
  Run(test());
  ASSERT_EQ(pthread_setattr_default_np(&plain), 0);
}

TEST_F(ForwardSessionTest, APortThatDoesNotAnswerIsGivenUp) {
  // A queue of one, full: the kernel drops further attempts.
  listen(four_.fd.get(), 0);
  std::vector<std::shared_ptr<TestForwardedConnection>> connections;
  const auto test = [&]() -> Task<> {
    for (int i = 0; i < 4; ++i) {
      connections.push_back(client_.Connect(four_.port));
    }
    const auto last = connections.back();
    co_await last->Until([&] { return !last->failure.empty(); });
    EXPECT_THAT(last->failure, HasSubstr("no answer within 300ms in pod p1"));
  };
  Run(test());
}

TEST_F(ForwardSessionTest, AConnectionThatTheClientGivesUpIsClosed) {
  bool closed = false;
  Serve(four_, [&](int fd) {
    EXPECT_TRUE(base::WriteAll(fd, "hello", "connection").ok());
    ReadAll(fd);
    closed = true;
  });
  const auto test = [&]() -> Task<> {
    const auto connection = client_.Connect(four_.port);
    co_await connection->Until([&] { return connection->received == "hello"; });
    connection->Cancel();
  };
  Run(test());
  server_.join();
  EXPECT_TRUE(closed);
}

TEST_F(ForwardSessionTest, AConnectionThatIsGivenUpIsClosedThoughItsTargetTakesNothing) {
  std::atomic<bool> closed = false;
  std::atomic<bool> looked = false;
  Serve(four_, [&](int fd) {
    // Its reading would make room: only the client's end of the connection ends this wait.
    pollfd hung_up = {.fd = fd, .events = POLLRDHUP, .revents = 0};
    closed = poll(&hung_up, 1, 20'000) == 1;
    looked = true;
  });
  const auto test = [&]() -> Task<> {
    const auto connection = client_.Connect(four_.port);
    connection->Send(std::string(64 << 20, 'x'));
    co_await connection->Until([&] { return connection->reads == 1; });
    connection->Cancel();
    Signal never(loop_);
    while (!looked) {
      co_await never.WaitFor(absl::Milliseconds(5));
    }
  };
  Run(test());
  EXPECT_TRUE(closed);
}

TEST_F(ForwardSessionTest, AClientThatLeavesClosesItsConnectionsAndLeavesNoThread) {
  Serve(four_, [&](int fd) {
    EXPECT_TRUE(base::WriteAll(fd, "hello", "connection").ok());
    ReadAll(fd);
  });
  const auto test = [&]() -> Task<> {
    const auto connection = client_.Connect(four_.port);
    co_await connection->Until([&] { return connection->received == "hello"; });
  };
  Run(test());
  server_.join();
  EXPECT_EQ(base::ListDirectory("/proc/self/task")->size(), 1u);
}

TEST_F(ForwardSessionTest, AServerThatHasEndedTakesNoMoreAndTheClientIsTold) {
  Serve(four_, [](int fd) {
    // With unread input: a reset.
    char byte;
    EXPECT_EQ(read(fd, &byte, 1), 1);
  });
  const auto test = [&]() -> Task<> {
    const auto connection = client_.Connect(four_.port);
    connection->Send(std::string(4 << 20, 'x'));
    co_await connection->Until([&] { return connection->finished; });
    connection->Send("more");
    connection->HalfClose();
    EXPECT_EQ(connection->failure, "");
  };
  Run(test());
}

}  // namespace
}  // namespace streaming
