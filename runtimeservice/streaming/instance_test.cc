#include "runtimeservice/streaming/instance.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <thread>

#include "base/files.h"
#include "base/strings.h"
#include "gmock/gmock.h"
#include "runtimeservice/streaming/protocol.h"

namespace streaming {
namespace {

using crisp::stream::Reply;
using crisp::stream::Request;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::StartsWith;

base::Context Patience() { return base::Context::Detached(absl::Seconds(30)); }

class InstanceTest : public testing::Test {
 protected:
  InstanceTest() {
    char path[] = "/tmp/crisp-instance-XXXXXX";
    settings_.set_directory(mkdtemp(path));
    settings_.set_address("127.0.0.1");
    settings_.set_max_sessions(10);
    settings_.set_max_urls(2);
    settings_.set_url_seconds(60);
    settings_.set_linger_seconds(3600);
    settings_.set_fingerprint("mine");
  }
  ~InstanceTest() override {
    if (thread_.joinable()) thread_.join();
    EXPECT_TRUE(base::RemoveTree(settings_.directory()).ok());
  }

  // On a thread of its own, until it ends and every client has left.
  void Start() {
    tokens_.emplace(settings_.max_urls(), absl::Seconds(settings_.url_seconds()));
    const auto drop = [](asio::ip::tcp::socket, Admit) -> Task<> { co_return; };
    auto instance = Instance::Start(loop_, settings_, drop, *tokens_, activity_);
    ASSERT_TRUE(instance.ok()) << instance.status();
    instance_ = *std::move(instance);
    Spawn(loop_, instance_->Run());
    thread_ = std::thread([this] { loop_.run(); });
  }
  base::UniqueFd Connect() const {
    auto socket = ConnectControl(Patience(), settings_.directory());
    EXPECT_TRUE(socket.ok()) << socket.status();
    return socket.ok() ? *std::move(socket) : base::UniqueFd();
  }
  static Reply Tell(const base::UniqueFd& socket, const Request& request) {
    const auto reply = Ask(Patience(), socket.get(), request);
    EXPECT_TRUE(reply.ok()) << reply.status();
    return reply.value_or(Reply());
  }
  static Request Retire() {
    Request request;
    request.mutable_retire();
    return request;
  }
  static Request Open() {
    Request request;
    request.mutable_open()->mutable_attach();
    return request;
  }

  crisp::stream::Settings settings_;
  asio::io_context loop_{1};
  Activity activity_{loop_};
  std::optional<Tokens> tokens_;
  std::unique_ptr<Instance> instance_;
  std::thread thread_;
};

TEST_F(InstanceTest, SaysWhoItIsAndGivesUrls) {
  Start();
  const base::UniqueFd socket = Connect();
  Request request;
  request.mutable_identify();
  const Reply identity = Tell(socket, request);
  EXPECT_EQ(identity.fingerprint(), "mine");
  EXPECT_EQ(identity.pid(), getpid());
  EXPECT_FALSE(identity.retired());
  const Reply opened = Tell(socket, Open());
  EXPECT_THAT(opened.url(), MatchesRegex(base::StrCat("http://127.0.0.1:", identity.port(),
                                                      "/attach/[0-9a-f]+")));
  EXPECT_EQ(Tell(socket, Request()).code(),
            static_cast<uint32_t>(absl::StatusCode::kUnimplemented));
  EXPECT_TRUE(Tell(socket, Open()).message().empty());
  EXPECT_TRUE(absl::IsResourceExhausted(ReplyStatus(Tell(socket, Open()))));
  Tell(socket, Retire());
}

TEST_F(InstanceTest, RetiredItGivesNoUrlAndEnds) {
  Start();
  base::UniqueFd other = Connect();
  {
    const base::UniqueFd socket = Connect();
    EXPECT_FALSE(Tell(socket, Open()).url().empty());
    EXPECT_TRUE(Tell(socket, Retire()).retired());
  }
  // This one may still be heard before the loop ends: it gets no URL of a closed listener.
  const auto reply = Ask(Patience(), other.get(), Open());
  EXPECT_TRUE(absl::IsUnavailable(reply.ok() ? ReplyStatus(*reply) : reply.status()));
  other.Reset();
  thread_.join();
  EXPECT_TRUE(absl::IsUnavailable(ConnectControl(Patience(), settings_.directory()).status()));
}

TEST_F(InstanceTest, AUrlKeepsItUntilItHasExpired) {
  settings_.set_linger_seconds(1);
  settings_.set_url_seconds(1);
  Start();
  const absl::Time begin = absl::Now();
  {
    const base::UniqueFd socket = Connect();
    EXPECT_FALSE(Tell(socket, Open()).url().empty());
  }
  thread_.join();
  EXPECT_GE(absl::Now() - begin, absl::Seconds(2));
  EXPECT_FALSE(base::Exists(settings_.directory() + kControlSocket));
}

TEST_F(InstanceTest, WhoTalksNonsenseIsHungUpOnAlone) {
  Start();
  const base::UniqueFd good = Connect();
  for (const std::string& nonsense :
       {std::string("\x7f\xff\xff\xff", 4), std::string("\0\0\0\1\xff", 5)}) {
    const base::UniqueFd bad = Connect();
    ASSERT_TRUE(base::WriteAll(bad.get(), nonsense, "socket").ok());
    Reply reply;
    EXPECT_TRUE(absl::IsUnavailable(ReceiveMessage(Patience(), bad.get(), &reply)));
  }
  EXPECT_FALSE(Tell(good, Open()).url().empty());
  Tell(good, Retire());
}

TEST_F(InstanceTest, ManyConnectionsWaitTheirTurn) {
  Start();
  std::vector<base::UniqueFd> idle;
  for (int i = 0; i < 64; ++i) {
    idle.push_back(Connect());
    EXPECT_EQ(Tell(idle.back(), Request()).url(), "");
  }
  const base::UniqueFd one_more = Connect();
  ASSERT_TRUE(SendMessage(Patience(), one_more.get(), Open()).ok());
  idle.clear();
  Reply reply;
  EXPECT_TRUE(ReceiveMessage(Patience(), one_more.get(), &reply).ok());
  EXPECT_FALSE(reply.url().empty());
  Tell(one_more, Retire());
}

TEST(ServerTest, TheUrlsHostIsOneThatThisMachineReaches) {
  asio::io_context loop(1);
  Activity activity(loop);
  const auto drop = [](asio::ip::tcp::socket, Admit) -> Task<> { co_return; };
  const auto url = [&](const std::string& address, bool tls) {
    auto server = Server::Listen(loop, {.address = address, .tls = tls}, drop, activity);
    if (!server.ok()) {
      return server.status().ToString();
    }
    const std::string text = (*server)->Url("/exec/x");
    (*server)->Close();
    loop.restart();
    loop.run();
    return text;
  };
  EXPECT_THAT(url("127.0.0.1", false), MatchesRegex("http://127.0.0.1:[0-9]+/exec/x"));
  EXPECT_THAT(url("0.0.0.0", true), MatchesRegex("https://127.0.0.1:[0-9]+/exec/x"));
  if (base::Exists("/proc/net/if_inet6")) {
    EXPECT_THAT(url("::1", false), MatchesRegex("http://\\[::1\\]:[0-9]+/exec/x"));
    EXPECT_THAT(url("::", false), MatchesRegex("http://\\[::1\\]:[0-9]+/exec/x"));
  }
  EXPECT_THAT(url("192.0.2.1", false), HasSubstr("stream_address \"192.0.2.1\": "));
  EXPECT_THAT(url("nowhere", false), HasSubstr("stream_address \"nowhere\": "));
}

TEST(ServerTest, APortThatIsTakenIsNamed) {
  asio::io_context loop(1);
  Activity activity(loop);
  const auto drop = [](asio::ip::tcp::socket, Admit) -> Task<> { co_return; };
  auto first = Server::Listen(loop, {.address = "127.0.0.1"}, drop, activity);
  ASSERT_TRUE(first.ok()) << first.status();
  const uint16_t port = (*first)->port();
  const ServerConfig same{.address = "127.0.0.1", .port = port};
  EXPECT_THAT(std::string(Server::Listen(loop, same, drop, activity).status().message()),
              StartsWith(base::StrCat("crisp.api.stream_port ", port, " on 127.0.0.1: ")));
  (*first)->Close();
  auto second = Server::Listen(loop, same, drop, activity);
  EXPECT_TRUE(second.ok()) << second.status();
  (*second)->Close();
  loop.run();
}

}  // namespace
}  // namespace streaming
