// A monitor of the test's own, which answers and then reads nothing.
#include "runtimeservice/streaming/attach_session.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>
#include <string>

#include "base/files.h"
#include "base/unique_fd.h"
#include "conmon/protocol.h"
#include "runtimeservice/streaming/test_command_client.h"

namespace streaming {
namespace {

class AttachSessionTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "/attach-session-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    const std::string path = directory_ + "/monitor.sock";
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    listener_ = base::UniqueFd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    ASSERT_EQ(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    ASSERT_EQ(listen(listener_.get(), 8), 0);
    session_.set_container_id("c1");
    session_.set_monitor_socket(path);
    session_.set_stdin(true);
    session_.set_stdout(true);
  }
  void TearDown() override { base::RemoveTree(directory_).IgnoreError(); }

  template <typename T>
  void Send(conmon::MessageType type, uint32_t sequence, const T& body) {
    const conmon::Header header = {static_cast<uint32_t>(type), sequence};
    std::string packet(reinterpret_cast<const char*>(&header), sizeof(header));
    packet.append(reinterpret_cast<const char*>(&body), sizeof(body));
    EXPECT_EQ(send(monitor_.get(), packet.data(), packet.size(), 0),
              static_cast<ssize_t>(packet.size()));
  }
  // Takes the connection, whose first packet is there already, and grants the attach.
  void Grant() {
    monitor_ = base::UniqueFd(accept(listener_.get(), nullptr, nullptr));
    conmon::State state = {};
    state.version = conmon::kProtocolVersion;
    state.flags = conmon::kStdinOpen;
    Send(conmon::MessageType::kState, 0, state);
    conmon::Header request = {};
    ASSERT_GE(recv(monitor_.get(), &request, sizeof(request), MSG_TRUNC),
              static_cast<ssize_t>(sizeof(request)));
    Send(conmon::MessageType::kReply, request.sequence, conmon::Reply{.error = 0});
  }

  void RunWhatCan() {
    loop_.restart();
    while (loop_.poll_one() > 0) {
    }
  }

  asio::io_context loop_;
  std::string directory_;
  base::UniqueFd listener_;
  base::UniqueFd monitor_;
  stream::AttachSession session_;
};

TEST_F(AttachSessionTest, AClientThatVanishesWhileItsInputIsNotTakenIsDetached) {
  for (const bool tty : {false, true}) {
    session_.set_tty(tty);
    TestCommandClient client(loop_);
    AttachSession attach(loop_, session_, client);
    bool ended = false;
    Spawn(loop_, attach.Run(), [&] { ended = true; });
    RunWhatCan();
    Grant();
    // More than a connection holds of packets: the session waits for the monitor then.
    client.SendStdin(std::string(8 << 20, 'x'));
    RunWhatCan();
    EXPECT_TRUE(client.delivering());
    client.Vanish();
    loop_.restart();
    loop_.run_for(std::chrono::seconds(20));
    ASSERT_TRUE(ended) << "the session does not end";
  }
}

}  // namespace
}  // namespace streaming
