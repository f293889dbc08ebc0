#include "imageservice/worker/protocol.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <cstdint>
#include <memory>
#include <string>
#include <thread>

#include "base/json.h"
#include "base/strings.h"
#include "imageservice/worker/verdict.h"

namespace imageservice::worker {
namespace {

std::string Frame(const std::string& json) {
  std::string frame;
  for (int shift = 24; shift >= 0; shift -= 8) {
    frame += static_cast<char>(json.size() >> shift & 0xff);
  }
  return frame + json;
}

TEST(ProtocolTest, RequestsSurviveTheirWay) {
  PullRequest request;
  request.reference = "quay.io/app/web:1.2";
  request.tag = "1.2";
  request.endpoints.push_back({.base_url = "https://mirror.io/v2",
                               .repository = "app/web",
                               .registry_namespace = "quay.io",
                               .headers = {"X-A: 1", "X-B: 2"},
                               .can_resolve = false,
                               .can_pull = true,
                               .connect_timeout_seconds = 7,
                               .insecure = true,
                               .ca_pem = "CA",
                               .client_certificate_pem = "CERT",
                               .client_key_pem = "KEY",
                               .credentials = {"user", "pass\"w\xf6rd", "identity", "registry"},
                               .bearer_token = "cached"});
  request.platform = {"linux", "arm64", "v8"};
  request.limits = {.max_layer_bytes = 12,
                    .max_layer_entries = 34,
                    .max_compression_ratio = 99,
                    .max_parallel_layers = 5,
                    .max_parallel_ranges = 6,
                    .stall_timeout_seconds = 7,
                    .minimum_bytes_per_second = 8};
  request.staging_directory = "/staging/7";
  const auto message = ParseDaemonMessage(Encode(DaemonMessage(request)));
  ASSERT_TRUE(message.ok()) << message.status();
  const PullRequest& read = std::get<PullRequest>(*message);
  EXPECT_EQ(Encode(DaemonMessage(read)), Encode(DaemonMessage(request)));
  EXPECT_EQ(read.endpoints[0].credentials.password, "pass\"w\xf6rd");
  EXPECT_EQ(read.endpoints[0].headers, request.endpoints[0].headers);
  EXPECT_FALSE(read.endpoints[0].can_resolve);
  EXPECT_EQ(read.limits.max_layer_bytes, 12u);
  EXPECT_EQ(read.limits.minimum_bytes_per_second, 8u);
}

TEST(ProtocolTest, AnswersSurviveTheirWay) {
  for (const LayerDecision decision :
       {LayerDecision::kHave, LayerDecision::kWait, LayerDecision::kFetch}) {
    const auto message = ParseDaemonMessage(Encode(DaemonMessage(LayerAnswer{3, decision})));
    ASSERT_TRUE(message.ok());
    EXPECT_EQ(std::get<LayerAnswer>(*message).index, 3);
    EXPECT_EQ(std::get<LayerAnswer>(*message).decision, decision);
  }
}

TEST(ProtocolTest, TheWordToGoOnSurvivesItsWay) {
  const auto message = ParseDaemonMessage(Encode(DaemonMessage(Resume())));
  ASSERT_TRUE(message.ok());
  EXPECT_NE(std::get_if<Resume>(&*message), nullptr);
}

TEST(ProtocolTest, WorkerMessagesSurviveTheirWay) {
  const std::string id(64, 'a');
  const WorkerMessage messages[] = {
      Progress{1, 2},
      Token{0, "secret", 1234},
      Warning{"careful"},
      Resolved{"sha256:1", "sha256:2", {"{}"}, "type", "{\"a\":\n1}", "config\t", id, 1},
      LayerQuestion{0, id, "", id, "sha256:2", 99},
      LayerDone{0, "1"},
      Stalled{absl::UnavailableError("HTTP 503")},
      Done{{.fetch = 1, .digest = 2, .inflate = 3, .unpack = 4}},
      Failed{absl::NotFoundError("gone")},
  };
  for (const WorkerMessage& message : messages) {
    const auto read = ParseWorkerMessage(Encode(message));
    ASSERT_TRUE(read.ok()) << Encode(message) << read.status();
    EXPECT_EQ(read->index(), message.index());
    EXPECT_EQ(Encode(*read), Encode(message));
  }
}

TEST(ProtocolTest, TokensAreLimited) {
  EXPECT_TRUE(ParseWorkerMessage(Encode(Token{0, std::string(kMaxTokenBytes, 't'), 1})).ok());
  EXPECT_FALSE(ParseWorkerMessage(Encode(Token{0, std::string(kMaxTokenBytes + 1, 't'), 1})).ok());
}

TEST(ProtocolTest, DeferredDevicesAreKept) {
  UnpackedLayer layer;
  DeferredOperation operation = {.kind = DeferredOperation::Kind::kNode, .path = "dev/sda"};
  operation.node = {.is_block = true,
                    .major = 8,
                    .minor = 0xfffff,
                    .mode = 07777,
                    .uid = 0xfffffffe,
                    .gid = 6,
                    .mtime = {-5, 999'999'999}};
  layer.deferred.push_back(operation);
  const auto read = ParseLayerMessage(Encode(LayerMessage(layer)));
  ASSERT_TRUE(read.ok()) << read.status();
  const DeferredOperation& got = std::get<UnpackedLayer>(*read).deferred.at(0);
  EXPECT_EQ(got.path, "dev/sda");
  EXPECT_TRUE(got.node.is_block);
  EXPECT_EQ(got.node.major, 8u);
  EXPECT_EQ(got.node.minor, 0xfffffu);
  EXPECT_EQ(got.node.mode, 07777u);
  EXPECT_EQ(got.node.uid, 0xfffffffeu);
  EXPECT_EQ(got.node.gid, 6u);
  EXPECT_EQ(got.node.mtime.tv_sec, -5);
  EXPECT_EQ(got.node.mtime.tv_nsec, 999'999'999);
}

TEST(ProtocolTest, DeferredDevicesAreChecked) {
  for (const char* node :
       {"[0,0,0,438,0,0,0,0]", "[0,1,3,4096,0,0,0,0]", "[0,1,3,-1,0,0,0,0]", "[2,1,3,0,0,0,0,0]",
        "[0,1,3,0,4294967295,0,0,0]", "[0,1,3,0,0,0,0,1000000000]", "[0,1,3,0,0,0,0]",
        "[0,1048576,3,0,0,0,0,0]", "[0,\"1\",3,0,0,0,0,0]", "\"x\"", "{}", "null"}) {
    const std::string json = base::StrCat(
        R"({"type":"unpacked","bytes":0,"inodes":0,"deferred":[["node","n",)", node, "]]}");
    EXPECT_EQ(ParseLayerMessage(json).status().code(), absl::StatusCode::kInvalidArgument) << node;
  }
}

TEST(ProtocolTest, DeferredOperationsAreLimitedInNumber) {
  UnpackedLayer layer;
  layer.deferred.resize(kMaxDeferredOperations, {.path = "a"});
  EXPECT_TRUE(ParseLayerMessage(Encode(LayerMessage(layer))).ok());
  layer.deferred.push_back(layer.deferred.front());
  const absl::Status status = ParseLayerMessage(Encode(LayerMessage(layer))).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_NE(status.message().find("100000"), absl::string_view::npos) << status;
}

TEST(ProtocolTest, DeferredPathsAreLimitedTogether) {
  UnpackedLayer layer;
  layer.deferred.resize(kMaxDeferredBytes / 4096, {DeferredOperation::Kind::kHardLink,
                                                   std::string(2048, 'p'), std::string(2048, 't')});
  EXPECT_TRUE(ParseLayerMessage(Encode(LayerMessage(layer))).ok());
  layer.deferred.push_back({.path = "a"});
  EXPECT_EQ(ParseLayerMessage(Encode(LayerMessage(layer))).status().code(),
            absl::StatusCode::kResourceExhausted);
}

TEST(ProtocolTest, AllTheDeferredWorkThatMayBeFitsAVerdict) {
  // The longest there is of everything: devices whose paths have to be escaped.
  DeferredOperation operation = {
      .kind = DeferredOperation::Kind::kNode,
      .path = std::string(kMaxDeferredBytes / kMaxDeferredOperations, '\xff')};
  operation.node = {.is_block = true,
                    .major = 0xfffff,
                    .minor = 0xfffff,
                    .mode = 07777,
                    .uid = 0xfffffffe,
                    .gid = 0xfffffffe,
                    .mtime = {INT64_MIN, 999'999'999}};
  UnpackedLayer layer;
  layer.deferred.resize(kMaxDeferredOperations, operation);
  const std::string json = Encode(LayerMessage(layer));
  EXPECT_LE(json.size(), kMaxUnpackedBytes);
  EXPECT_TRUE(ParseLayerMessage(json).ok());
}

TEST(ProtocolTest, DeferredPathsMayBeAnyBytes) {
  UnpackedLayer layer;
  const std::string path = "caf\xe9/100%/\n\xff";
  layer.deferred.push_back({DeferredOperation::Kind::kHardLink, path, "t%41"});
  layer.deferred.push_back({DeferredOperation::Kind::kCopyMetadata, ".", ""});
  layer.deferred.push_back({DeferredOperation::Kind::kOpaque, "a", ""});
  const auto read = ParseLayerMessage(Encode(LayerMessage(layer)));
  ASSERT_TRUE(read.ok()) << read.status();
  const auto& deferred = std::get<UnpackedLayer>(*read).deferred;
  ASSERT_EQ(deferred.size(), 3u);
  EXPECT_EQ(deferred[0].path, path);
  EXPECT_EQ(deferred[0].target, "t%41");
  EXPECT_EQ(deferred[1].path, ".");
  EXPECT_EQ(deferred[2].kind, DeferredOperation::Kind::kOpaque);
}

TEST(ProtocolTest, RejectsDeferredPathsThatClimb) {
  for (const char* path :
       {"/etc", "..", "a/../b", "a//b", "./a", "a/", "", "%2e%2e/x", "a%00b", "a%4", "%", "%zz"}) {
    const base::Json json = {
        {"type", "unpacked"}, {"bytes", 0}, {"inodes", 0}, {"deferred", {{"opaque", path}}}};
    EXPECT_FALSE(ParseLayerMessage(base::DumpJson(json)).ok()) << path;
  }
}

TEST(ProtocolTest, RejectsFolderNamesThatAreNoNumbers) {
  for (const char* name : {"", "..", "1/2", "a", "99999999999"}) {
    const base::Json json = {{"type", "layer_done"}, {"index", 0}, {"directory", name}};
    EXPECT_FALSE(ParseWorkerMessage(base::DumpJson(json)).ok()) << name;
  }
}

TEST(ProtocolTest, RejectsMalformedMessages) {
  for (const char* text : {"", "[]", "{}", "7", R"({"type":"nothing"})", R"({"type":"layer"})",
                           R"({"type":"progress","done":-1})", R"({"type":"error","code":0})",
                           R"({"type":"error","code":99})"}) {
    EXPECT_FALSE(ParseWorkerMessage(text).ok()) << text;
  }
  EXPECT_FALSE(ParseDaemonMessage(R"({"type":"answer","index":-1,"decision":"have"})").ok());
  EXPECT_FALSE(ParseDaemonMessage(R"({"type":"answer","index":0,"decision":"no"})").ok());
}

TEST(FrameReaderTest, PutsFramesTogetherFromSingleBytes) {
  const std::string bytes = Frame("one") + Frame("") + Frame("three");
  FrameReader reader;
  std::vector<std::string> frames;
  for (const char c : bytes) {
    reader.Append(std::string_view(&c, 1));
    for (auto next = reader.Next(); next.ok() && next->has_value(); next = reader.Next()) {
      frames.push_back(**next);
    }
  }
  EXPECT_EQ(frames, (std::vector<std::string>{"one", "", "three"}));
  EXPECT_FALSE(reader.InFrame());
}

TEST(FrameReaderTest, RefusesAFrameThatIsTooLongBeforeItArrives) {
  FrameReader reader(10);
  reader.Append(std::string("\0\0\0\x0b", 4));
  EXPECT_EQ(reader.Next().status().code(), absl::StatusCode::kResourceExhausted);
}

class ChannelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    int sockets[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
    left_ = std::make_unique<Channel>(base::UniqueFd(sockets[0]));
    right_ = std::make_unique<Channel>(base::UniqueFd(sockets[1]));
  }
  std::unique_ptr<Channel> left_;
  std::unique_ptr<Channel> right_;
};

TEST_F(ChannelTest, CarriesAMessageLargerThanTheSocketsBuffer) {
  const std::string big(8 << 20, 'x');
  std::thread sender([&] { EXPECT_TRUE(left_->Send(base::Context(), big).ok()); });
  const auto received = right_->Receive(base::Context());
  sender.join();
  ASSERT_TRUE(received.ok()) << received.status();
  EXPECT_EQ(*received, big);
}

TEST_F(ChannelTest, TellsAnEndFromACut) {
  left_.reset();
  EXPECT_EQ(right_->Receive(base::Context()).status().code(), absl::StatusCode::kOutOfRange);

  int sockets[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
  Channel cut{base::UniqueFd(sockets[0])};
  ASSERT_EQ(write(sockets[1], "\0\0", 2), 2);
  close(sockets[1]);
  EXPECT_EQ(cut.Receive(base::Context()).status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(ChannelTest, ReceiveEndsWithItsDeadline) {
  const base::Context ctx = base::Context().WithTimeout(absl::Milliseconds(20));
  EXPECT_EQ(right_->Receive(ctx).status().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(ChannelTest, SendToAPeerThatDoesNotReadEndsWithItsDeadline) {
  const base::Context ctx = base::Context().WithTimeout(absl::Milliseconds(50));
  EXPECT_EQ(left_->Send(ctx, std::string(8 << 20, 'x')).code(),
            absl::StatusCode::kDeadlineExceeded);
}

TEST_F(ChannelTest, SendToNobodyIsUnavailable) {
  right_.reset();
  EXPECT_EQ(left_->Send(base::Context(), "x").code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace imageservice::worker
