// Attached clients: output to all, input from all, and none that can hold the container up.
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <csignal>
#include <cstring>

#include "absl/strings/match.h"
#include "base/files.h"
#include "base/strings.h"
#include "gmock/gmock.h"
#include "runtimeservice/oci/container_fixture.h"

namespace runtimeservice {
namespace {

using ::base::StrCat;
using ::base::UniqueFd;
using ::conmon::MessageType;
using ::testing::HasSubstr;

constexpr uint32_t kOutputs = conmon::kStreamStdout | conmon::kStreamStderr;

// The streaming server's side of an attached connection.
class Client {
 public:
  explicit Client(UniqueFd fd) : fd_(std::move(fd)) {}

  void Send(MessageType type, std::string_view data = "") {
    const conmon::Header header = {static_cast<uint32_t>(type), 7};
    std::string packet(reinterpret_cast<const char*>(&header), sizeof(header));
    packet.append(data);
    EXPECT_EQ(send(fd_.get(), packet.data(), packet.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(packet.size()));
  }
  // Takes one packet in; false at the end or after ten seconds of silence.
  bool Receive() {
    pollfd entry = {fd_.get(), POLLIN, 0};
    std::string packet(conmon::kMaxPacket, '\0');
    if (poll(&entry, 1, 10'000) != 1) {
      return false;
    }
    const ssize_t length = recv(fd_.get(), packet.data(), packet.size(), 0);
    conmon::Header header = {};
    if (length < static_cast<ssize_t>(sizeof(header))) {
      return false;
    }
    packet.resize(static_cast<size_t>(length));
    std::memcpy(&header, packet.data(), sizeof(header));
    packet.erase(0, sizeof(header));
    Take(static_cast<MessageType>(header.type), packet);
    return true;
  }
  bool ReceiveUntil(const std::string& text) {
    while (!absl::StrContains(out, text) && !absl::StrContains(err, text)) {
      if (!Receive()) {
        return false;
      }
    }
    return true;
  }
  void ReceiveAll() {
    while (Receive()) {
    }
  }

  std::string out;
  std::string err;
  std::optional<int> exit_code;
  std::optional<int> reply;

 private:
  void Take(MessageType type, const std::string& payload) {
    if (type == MessageType::kOutput) {
      conmon::Output output = {};
      std::memcpy(&output, payload.data(), sizeof(output));
      (output.stream == conmon::kStreamStdout ? out : err) += payload.substr(sizeof(output));
    } else if (type == MessageType::kExited) {
      conmon::Exited exited = {};
      std::memcpy(&exited, payload.data(), sizeof(exited));
      exit_code = exited.code;
    } else if (type == MessageType::kReply) {
      conmon::Reply answer = {};
      std::memcpy(&answer, payload.data(), sizeof(answer));
      reply = answer.error;
    }
  }

  UniqueFd fd_;
};

class AttachTest : public ContainerFixture {
 protected:
  Client Attach(uint32_t streams) {
    MonitorConnection connection = Connect();
    const absl::Status status = connection.Attach(Patience(), streams);
    EXPECT_TRUE(status.ok()) << status;
    return Client(connection.Release());
  }
  void Go() {
    ASSERT_TRUE(
        base::ReplaceFile(directory() + "/bundle/rootfs/go", "", 0600, base::Durability::kVolatile)
            .ok());
  }
  static constexpr char kWaitForGo[] = "while ! test -e /go; do sleep 0.02; done; ";
};

TEST_F(AttachTest, EveryClientGetsTheOutputAndTheExit) {
  ASSERT_NO_FATAL_FAILURE(Run(PrepareScript(StrCat(kWaitForGo, "echo out; echo err >&2; exit 5"))));
  Client both = Attach(kOutputs);
  Client only_err = Attach(conmon::kStreamStderr);
  Go();
  both.ReceiveAll();
  only_err.ReceiveAll();
  EXPECT_EQ(both.out, "out\n");
  EXPECT_EQ(both.err, "err\n");
  EXPECT_EQ(both.exit_code, 5);
  EXPECT_EQ(only_err.out, "");
  EXPECT_EQ(only_err.err, "err\n");
  EXPECT_EQ(only_err.exit_code, 5);
}

TEST_F(AttachTest, ClientThatDoesNotReadIsDroppedAndHoldsNobodyUp) {
  ASSERT_NO_FATAL_FAILURE(Run(PrepareScript(StrCat(kWaitForGo, "seq 1 1000000; exit 2"))));
  Client stuck = Attach(kOutputs);
  Client reader = Attach(kOutputs);
  Go();
  // Fails by the time limit of ReceiveAll if the stuck client stops the output.
  reader.ReceiveAll();
  EXPECT_EQ(WaitForExit().code, 2);
  EXPECT_THAT(reader.out, ::testing::EndsWith("\n1000000\n"));
  EXPECT_EQ(reader.exit_code, 2);
  EXPECT_TRUE(LogHas("stdout F 1000000"));
  stuck.ReceiveAll();
  EXPECT_EQ(stuck.exit_code, std::nullopt);
  EXPECT_LT(stuck.out.size(), 2u << 20);
}

TEST_F(AttachTest, InputReachesTheContainer) {
  MonitorSpec spec = PrepareScript("cat; echo end");
  spec.has_stdin = true;
  spec.stdin_once = true;
  ASSERT_NO_FATAL_FAILURE(Run(spec));
  EXPECT_TRUE(connection().state().stdin_open);
  Client client = Attach(conmon::kStreamStdin | kOutputs);
  client.Send(MessageType::kStdin, "hello\n");
  EXPECT_TRUE(client.ReceiveUntil("hello\n"));
  client.Send(MessageType::kStdinEnd);
  client.ReceiveAll();
  EXPECT_EQ(client.out, "hello\nend\n");
  EXPECT_EQ(client.exit_code, 0);
}

TEST_F(AttachTest, InputOfOnceEndsWithTheConnection) {
  MonitorSpec spec = PrepareScript("cat; exit 3");
  spec.has_stdin = true;
  spec.stdin_once = true;
  ASSERT_NO_FATAL_FAILURE(Run(spec));
  {
    Client client = Attach(conmon::kStreamStdin);
  }
  EXPECT_EQ(WaitForExit().code, 3);
}

TEST_F(AttachTest, InputStaysOpenForTheNextClient) {
  MonitorSpec spec = PrepareScript("while read line; do echo got $line; done");
  spec.has_stdin = true;
  ASSERT_NO_FATAL_FAILURE(Run(spec));
  {
    Client first = Attach(conmon::kStreamStdin | kOutputs);
    first.Send(MessageType::kStdin, "one\n");
    EXPECT_TRUE(first.ReceiveUntil("got one\n"));
    first.Send(MessageType::kStdinEnd);
  }
  Client second = Attach(conmon::kStreamStdin | kOutputs);
  second.Send(MessageType::kStdin, "two\n");
  EXPECT_TRUE(second.ReceiveUntil("got two\n"));
}

TEST_F(AttachTest, InputThatTheContainerDoesNotReadStopsNothingElse) {
  MonitorSpec spec = PrepareScript(StrCat(kWaitForGo, "busybox wc -c"));
  spec.has_stdin = true;
  spec.stdin_once = true;
  ASSERT_NO_FATAL_FAILURE(Run(spec));
  Client writer = Attach(conmon::kStreamStdin | kOutputs);
  // More than the pipe holds: a part waits in the monitor, the rest in the socket.
  const std::string block(conmon::kMaxData, 'x');
  for (int i = 0; i < 8; ++i) {
    writer.Send(MessageType::kStdin, block);
  }
  EXPECT_TRUE(connection().RefreshState(Patience()).ok());
  Client other = Attach(kOutputs);
  Go();
  writer.Send(MessageType::kStdinEnd);
  other.ReceiveAll();
  EXPECT_EQ(other.out, StrCat(8 * conmon::kMaxData, "\n"));
}

TEST_F(AttachTest, InputWithoutStdinIsIgnored) {
  ASSERT_NO_FATAL_FAILURE(Run(PrepareScript(StrCat("cat; ", kWaitForGo, "exit 4"))));
  EXPECT_FALSE(connection().state().stdin_open);
  Client client = Attach(conmon::kStreamStdin | kOutputs);
  client.Send(MessageType::kStdin, "nobody reads this\n");
  Go();
  client.ReceiveAll();
  EXPECT_EQ(client.exit_code, 4);
}

TEST_F(AttachTest, TerminalTakesInputAndItsNewSize) {
  BundleOptions options;
  options.args = {"/bin/sh", "-c", "read line; echo got $line; stty size"};
  options.terminal = true;
  MonitorSpec spec = Prepare(options);
  spec.has_stdin = true;
  ASSERT_NO_FATAL_FAILURE(Run(spec));
  EXPECT_TRUE(connection().state().terminal);
  const absl::Status resized = connection().Resize(Patience(), 132, 43);
  EXPECT_TRUE(resized.ok()) << resized;
  Client client = Attach(conmon::kStreamStdin | kOutputs);
  client.Send(MessageType::kStdin, "word\n");
  client.ReceiveAll();
  EXPECT_THAT(client.out, HasSubstr("got word\r\n43 132\r\n"));
  EXPECT_EQ(client.exit_code, 0);
}

TEST_F(AttachTest, TerminalThatWasClosedMayBeOpenedAgain) {
  BundleOptions options;
  options.args = {"/bin/sh", "-c",
                  "exec <&- >&- 2>&-; sleep 0.4; exec >/dev/console; echo back; exit 3"};
  options.terminal = true;
  ASSERT_NO_FATAL_FAILURE(Run(Prepare(options)));
  EXPECT_EQ(WaitForExit().code, 3);
  EXPECT_TRUE(LogHas("stdout F back\r"));
}

TEST_F(AttachTest, ResizeWithoutTerminalIsRefused) {
  ASSERT_NO_FATAL_FAILURE(Run(PrepareScript("sleep 1000")));
  EXPECT_TRUE(absl::IsFailedPrecondition(connection().Resize(Patience(), 80, 25)));
}

TEST_F(AttachTest, TooManyClientsLeaveRoomForTheDaemon) {
  ASSERT_NO_FATAL_FAILURE(Run(PrepareScript("sleep 1000")));
  std::vector<Client> clients;
  for (int i = 0; i < 12; ++i) {
    clients.push_back(Attach(kOutputs));
  }
  EXPECT_TRUE(absl::IsResourceExhausted(Connect().Attach(Patience(), kOutputs)));
  EXPECT_TRUE(connection().RefreshState(Patience()).ok());
}

TEST_F(AttachTest, UnknownRequestIsAnsweredAndOversizedOneEndsTheConnection) {
  ASSERT_NO_FATAL_FAILURE(Run(PrepareScript("sleep 1000")));
  Client client(Connect().Release());
  client.Send(static_cast<MessageType>(4711), "future");
  ASSERT_TRUE(client.Receive());
  EXPECT_EQ(client.reply, ENOSYS);
  client.Send(MessageType::kStdin, std::string(conmon::kMaxPacket + 100, 'x'));
  EXPECT_FALSE(client.Receive());
  EXPECT_TRUE(connection().RefreshState(Patience()).ok());
}

}  // namespace
}  // namespace runtimeservice
