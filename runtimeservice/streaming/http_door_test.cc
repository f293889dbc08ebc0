#include "runtimeservice/streaming/http_door.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtimeservice/streaming/test_raw_client.h"

namespace streaming {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

class HttpDoorTest : public ::testing::Test {
 protected:
  HttpDoorTest() { UseRawClients(door_.door()); }
  // The answer to `request`, until the connection's end.
  std::string Ask(std::string_view request) {
    TestClient client(door_.port());
    client.Send(request);
    return client.ReceiveAll();
  }
  TestDoor door_;
};

TEST_F(HttpDoorTest, UpgradesToSpdyByTheClientsOrder) {
  door_.Start();
  TestClient client(door_.port());
  client.Send(SpdyRequest("/exec/good"));
  EXPECT_EQ(client.ReceiveHead(),
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
            "X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n");
  EXPECT_EQ(client.Receive(10), "version 4\n");
}

TEST_F(HttpDoorTest, HeaderNamesAndTokensMatchInAnyCaseAndTheQueryIsIgnored) {
  door_.Start();
  TestClient client(door_.port());
  client.Send(
      "GET /exec/good?x=1 HTTP/1.1\r\nHOST: x\r\nconnection: keep-alive, UPGRADE\r\n"
      "upgrade: h2c, spdy/3.1\r\nx-stream-protocol-version: channel.k8s.io\r\n\r\n");
  EXPECT_THAT(client.ReceiveHead(), HasSubstr("\r\nX-Stream-Protocol-Version: channel.k8s.io\r\n"));
  EXPECT_EQ(client.Receive(10), "version 1\n");
}

TEST_F(HttpDoorTest, ATargetMayBeAWholeUrl) {
  door_.Start();
  TestClient client(door_.port());
  client.Send(SpdyRequest("HTTP://[::1]:10010/exec/good?x=1"));
  EXPECT_THAT(client.ReceiveHead(), StartsWith("HTTP/1.1 101 "));
  TestClient nowhere(door_.port());
  nowhere.Send(SpdyRequest("https://host"));
  EXPECT_THAT(nowhere.ReceiveHead(), StartsWith("HTTP/1.1 404 "));
}

TEST_F(HttpDoorTest, BytesThatCameWithTheRequestBelongToSpdy) {
  door_.Start();
  TestClient client(door_.port());
  const std::string early(5000, 'e');  // More than one read takes.
  client.Send(base::StrCat(SpdyRequest("/exec/good"), early));
  client.ReceiveHead();
  client.FinishWriting();
  EXPECT_THAT(client.ReceiveAll(), StartsWith("version 4\n<eeee"));
  door_.Stop();
  EXPECT_EQ(door_.received, early);
}

TEST_F(HttpDoorTest, ARequestMayComeByteByByte) {
  door_.Start();
  TestClient client(door_.port());
  for (const char c : SpdyRequest("/exec/good")) {
    client.Send(std::string_view(&c, 1));
  }
  EXPECT_THAT(client.ReceiveHead(), StartsWith("HTTP/1.1 101 "));
}

TEST_F(HttpDoorTest, TheClientsHalfCloseIsTheEndOfItsBytesOnly) {
  door_.Start();
  TestClient client(door_.port());
  client.Send(SpdyRequest("/exec/good"));
  client.ReceiveHead();
  client.Send("ab");
  EXPECT_EQ(client.Receive(13), "version 4\n<ab");
  client.FinishWriting();
  EXPECT_EQ(client.ReceiveAll(), "");
  door_.Stop();
  EXPECT_TRUE(door_.stdin_ended);
}

struct Refusal {
  std::string_view name;
  std::string request;
  std::string_view status;
  std::string_view content;  // Somewhere in the answer.
};

class HttpRefusalTest : public ::testing::TestWithParam<Refusal> {};

TEST_P(HttpRefusalTest, IsAnsweredAndLeavesTheTokenGood) {
  TestDoor door;
  door.Start();
  std::string answer;
  {
    TestClient client(door.port());
    client.Send(GetParam().request);
    answer = client.ReceiveAll();
  }
  EXPECT_THAT(answer, StartsWith(base::StrCat("HTTP/1.1 ", GetParam().status, "\r\n")));
  EXPECT_THAT(answer, HasSubstr("\r\nConnection: close\r\n"));
  EXPECT_THAT(answer, HasSubstr(std::string(GetParam().content)));
  EXPECT_THAT(answer, EndsWith("\n"));
  door.Stop();
  EXPECT_THAT(door.redeemed, IsEmpty());
}

std::string Lines(std::string_view first, std::string_view headers) {
  return base::StrCat(first, " HTTP/1.1\r\nHost: x\r\n", headers, "\r\n");
}
std::string WebSocketLines(std::string_view first, std::string_view headers) {
  return Lines(first, base::StrCat("Connection: upgrade\r\nUpgrade: websocket\r\n", headers));
}
constexpr char kKey[] = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
constexpr char kVersion[] = "Sec-WebSocket-Version: 13\r\n";

const Refusal kRefusals[] = {
    {"NoPage", SpdyRequest("/"), "404 Not Found", "no such page"},
    {"NoToken", SpdyRequest("/exec/"), "404 Not Found", "no such page"},
    {"BadToken", SpdyRequest("/exec/../x"), "404 Not Found", "no such page"},
    {"LongToken", SpdyRequest(base::StrCat("/exec/", std::string(129, 'a'))), "404 Not Found", ""},
    {"OtherKind", SpdyRequest("/cp/good"), "404 Not Found", "no such page"},
    {"Method", SpdyRequest("/exec/good", "PUT"), "405 Method Not Allowed",
     "\r\nAllow: GET, POST\r\n"},
    {"Http10", base::StrCat("POST /exec/good HTTP/1.0\r\n", kSpdyHeaders, "\r\n"),
     "505 HTTP Version Not Supported", ""},
    {"NoConnectionHeader", Lines("POST /exec/good", "Upgrade: SPDY/3.1\r\n"), "400 Bad Request",
     "Connection"},
    {"NoUpgradeHeader", Lines("POST /exec/good", "Connection: Upgrade\r\n"), "400 Bad Request",
     "names neither SPDY/3.1 nor websocket"},
    {"OtherUpgrade", Lines("POST /exec/good", "Connection: Upgrade\r\nUpgrade: SPDY/4\r\n"),
     "400 Bad Request", "names neither SPDY/3.1 nor websocket"},
    {"NoProtocolHeader", Lines("POST /exec/good", "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"),
     "400 Bad Request", "X-Stream-Protocol-Version is missing"},
    {"NoCommonProtocol",
     Lines("POST /exec/good",
           "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
           "X-Stream-Protocol-Version: v5.channel.k8s.io\r\n"),
     "403 Forbidden",
     "X-Accepted-Stream-Protocol-Versions: v4.channel.k8s.io\r\n"
     "X-Accepted-Stream-Protocol-Versions: v3.channel.k8s.io\r\n"
     "X-Accepted-Stream-Protocol-Versions: v2.channel.k8s.io\r\n"
     "X-Accepted-Stream-Protocol-Versions: channel.k8s.io\r\n"},
    {"CommandProtocolForPortForward", SpdyRequest("/portforward/good"), "403 Forbidden",
     "X-Accepted-Stream-Protocol-Versions: portforward.k8s.io\r\n"},
    {"Body",
     base::StrCat("POST /exec/good HTTP/1.1\r\nContent-Length: 3\r\n", kSpdyHeaders, "\r\nabc"),
     "400 Bad Request", "has no body"},
    {"ChunkedBody",
     base::StrCat("POST /exec/good HTTP/1.1\r\nTransfer-Encoding: chunked\r\n", kSpdyHeaders,
                  "\r\n0\r\n\r\n"),
     "400 Bad Request", "has no body"},
    {"NotHttp", "\x16\x03\x01\x02\r\n\r\n", "400 Bad Request", "not an HTTP request"},
    {"BadField", "GET /exec/good HTTP/1.1\r\nno colon\r\n\r\n", "400 Bad Request",
     "not an HTTP request"},
    {"HugeHeader", base::StrCat("GET /exec/good HTTP/1.1\r\nX: ", std::string(70000, 'x')),
     "431 Request Header Fields Too Large", "stream_max_header_size"},
    {"WebSocketByPost", WebSocketLines("POST /exec/good", ""), "405 Method Not Allowed",
     "\r\nAllow: GET\r\n"},
    {"WebSocketVersion",
     WebSocketLines("GET /exec/good", base::StrCat(kKey, "Sec-WebSocket-Version: 8\r\n")),
     "426 Upgrade Required", "\r\nSec-WebSocket-Version: 13\r\n"},
    {"WebSocketWithoutKey", WebSocketLines("GET /exec/good", kVersion), "400 Bad Request",
     "Sec-WebSocket-Key"},
    {"WebSocketWithAShortKey",
     WebSocketLines("GET /exec/good", base::StrCat(kVersion, "Sec-WebSocket-Key: YWJj\r\n")),
     "400 Bad Request", "Sec-WebSocket-Key"},
    {"WebSocketNoCommonProtocol",
     WebSocketLines("GET /exec/good", base::StrCat(kVersion, kKey,
                                                   "Sec-WebSocket-Protocol: v6.channel.k8s.io, "
                                                   "SPDY/3.1+portforward.k8s.io\r\n")),
     "403 Forbidden", "X-Accepted-Stream-Protocol-Versions: v5.channel.k8s.io\r\n"},
};

INSTANTIATE_TEST_SUITE_P(All, HttpRefusalTest, ::testing::ValuesIn(kRefusals),
                         [](const auto& param) { return std::string(param.param.name); });

TEST_F(HttpDoorTest, ATokenIsGoodOnceAndForItsKindOnly) {
  door_.Start();
  EXPECT_THAT(Ask(SpdyRequest("/attach/good")), StartsWith("HTTP/1.1 404 Not Found\r\n"));
  {
    TestClient client(door_.port());
    client.Send(SpdyRequest("/exec/good"));
    EXPECT_THAT(client.ReceiveHead(), StartsWith("HTTP/1.1 101 "));
  }
  EXPECT_THAT(Ask(SpdyRequest("/exec/good")), HasSubstr("no such token"));
  door_.Stop();
  EXPECT_THAT(door_.redeemed, ::testing::ElementsAre("attach/good", "exec/good", "exec/good"));
}

TEST_F(HttpDoorTest, AHeaderThatDoesNotEndIsClosedInTimeAndOneCutShortAtOnce) {
  door_.door().limits.creation = absl::Milliseconds(50);
  door_.Start();
  EXPECT_THAT(Ask("GET /exec/good HTTP/1.1\r\nHost"), StartsWith("HTTP/1.1 408 Request Timeout"));
  EXPECT_EQ(Ask(""), "");
  {
    TestClient client(door_.port());
    client.Send("GET /exec/good");
    client.FinishWriting();
    EXPECT_THAT(client.ReceiveAll(), StartsWith("HTTP/1.1 400 Bad Request"));
  }
  door_.Stop();
  EXPECT_THAT(door_.redeemed, IsEmpty());
}

TEST_F(HttpDoorTest, TheLimitOfAHeaderIsTheSettings) {
  door_.door().limits.max_header_bytes = 200;
  door_.Start();
  EXPECT_THAT(
      Ask(base::StrCat("GET /exec/good HTTP/1.1\r\nX: ", std::string(200, 'x'), "\r\n\r\n")),
      StartsWith("HTTP/1.1 431 "));
}

TEST_F(HttpDoorTest, AClientThatGoesOnSendingStillReadsItsRefusal) {
  door_.Start();
  const std::string answer =
      Ask(base::StrCat("GET /exec/good HTTP/1.1\r\nX: ", std::string(200 << 10, 'x')));
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 431 "));
}

}  // namespace
}  // namespace streaming
