// The protocol is frozen: a change that fails here breaks monitors that are running somewhere.
#include "conmon/protocol.h"

#include <cstring>
#include <string>

#include "gtest/gtest.h"

namespace conmon {
namespace {

// The bytes of a struct in hexadecimal, as a little-endian machine sends them.
template <typename T>
std::string Hex(const T& value) {
  unsigned char bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof(T));
  std::string text;
  for (unsigned char byte : bytes) {
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

TEST(ProtocolTest, BytesOnTheWireAreFrozen) {
  EXPECT_EQ(Hex(Header{0x01020304, 0x0a0b0c0d}), "040302010d0c0b0a");
  EXPECT_EQ(Hex(Ready{1, 0x1234}), "0100000034120000");
  EXPECT_EQ(Hex(Created{0x1234}), "34120000");
  EXPECT_EQ(Hex(Failed{-1}), "ffffffff");
  EXPECT_EQ(Hex(State{1, 2, 3, kHasTerminal | kStdinOpen | kInitExited, 4, 5, 28}),
            "0100000002000000030000000000000007000000040000000500"
            "00001c000000");
  EXPECT_EQ(Hex(Resize{80, 25}), "5000000019000000");
  EXPECT_EQ(Hex(Attach{kStreamStdin | kStreamStdout | kStreamStderr}), "07000000");
  EXPECT_EQ(Hex(Reply{38}), "26000000");
  EXPECT_EQ(Hex(Output{kStreamStderr}), "04000000");
  EXPECT_EQ(Hex(Exited{137, 9, 1, 0, 0x1122334455667788}),
            "890000000900000001000000000000008877665544332211");
}

TEST(ProtocolTest, NumbersOfTheMessagesAreFrozen) {
  const std::pair<MessageType, uint32_t> all[] = {
      {MessageType::kReady, 1},      {MessageType::kGo, 2},          {MessageType::kCreated, 3},
      {MessageType::kFailed, 4},     {MessageType::kAcknowledge, 5}, {MessageType::kGetState, 16},
      {MessageType::kReopenLog, 17}, {MessageType::kResize, 18},     {MessageType::kAttach, 19},
      {MessageType::kStdin, 20},     {MessageType::kStdinEnd, 21},   {MessageType::kStart, 22},
      {MessageType::kGiveUp, 23},    {MessageType::kState, 32},      {MessageType::kReply, 33},
      {MessageType::kOutput, 34},    {MessageType::kExited, 35}};
  for (const auto& [type, number] : all) {
    EXPECT_EQ(static_cast<uint32_t>(type), number);
  }
  EXPECT_EQ(kProtocolVersion, 1u);
  EXPECT_EQ(kMaxData, 16384u);
  EXPECT_EQ(kMaxPacket, 16448u);
}

TEST(ProtocolTest, NamesOfTheFilesAreFrozen) {
  EXPECT_STREQ(kLockFile, "monitor.lock");
  EXPECT_STREQ(kSocketFile, "monitor.sock");
  EXPECT_STREQ(kPidFile, "pid");
  EXPECT_STREQ(kExitFile, "exit");
  EXPECT_STREQ(kRuntimeLogFile, "create.log");
  EXPECT_STREQ(kExitFileMagic, "crisp-exit 1");
}

}  // namespace
}  // namespace conmon
