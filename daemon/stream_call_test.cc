// Server streams through the dispatcher.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "daemon/dispatch.h"
#include "daemon/test_rpcs.h"
#include "proto/crisp.grpc.pb.h"

namespace crispd {
namespace {

using crisp::v1::Event;
using ::testing::ElementsAre;
using ::testing::SizeIs;

using Emit = std::function<void(const Event&)>;
using Handler = std::function<absl::Status(const base::Context&, const Emit&)>;

// A service with one stream, which does what the test says.
class FakeStream final : public crisp::v1::Images::CallbackService {
 public:
  FakeStream(Dispatcher* dispatcher, base::Lane* lane) : dispatcher_(dispatcher), lane_(lane) {}

  grpc::ServerWriteReactor<Event>* Pull(grpc::CallbackServerContext* context,
                                        const crisp::v1::PullRequest* request) override {
    return dispatcher_->RunStream<Event>(
        context, Verb{"Pull", lane_}, request,
        [this](const base::Context& ctx, const auto&, const Emit& emit) {
          return handler(ctx, emit);
        },
        [](const Event& event) { return event.has_progress(); });
  }

  Handler handler;

 private:
  Dispatcher* const dispatcher_;
  base::Lane* const lane_;
};

Event Progress(uint64_t bytes) {
  Event event;
  event.mutable_progress()->set_bytes_done(bytes);
  return event;
}
Event Named(const std::string& id) {
  Event event;
  event.mutable_image()->set_id(id);
  return event;
}

class StreamCallTest : public RpcTest {
 protected:
  void SetUp() override {
    RpcTest::SetUp();
    const std::string socket = directory_ + "/stream.sock";
    auto server = Server::Start({.socket = socket}, {&service_});
    ASSERT_TRUE(server.ok()) << server.status();
    stream_server_ = *std::move(server);
    stub_ = crisp::v1::Images::NewStub(
        grpc::CreateChannel("unix:" + socket, grpc::InsecureChannelCredentials()));
  }
  void TearDown() override {
    stream_server_.reset();
    RpcTest::TearDown();
  }

  // Calls, and reads to the end.
  grpc::Status Call(std::vector<Event>* events) {
    grpc::ClientContext context;
    const auto reader = stub_->Pull(&context, crisp::v1::PullRequest());
    for (Event event; reader->Read(&event);) {
      events->push_back(event);
    }
    return reader->Finish();
  }
  static std::vector<std::string> Ids(const std::vector<Event>& events) {
    std::vector<std::string> ids;
    for (const Event& event : events) {
      if (event.has_image()) ids.push_back(event.image().id());
    }
    return ids;
  }

  FakeStream service_{&dispatcher_, &lanes_.sandbox};
  std::unique_ptr<Server> stream_server_;
  std::unique_ptr<crisp::v1::Images::Stub> stub_;
};

TEST_F(StreamCallTest, EventsArriveInOrderAndTheEndAfterThem) {
  service_.handler = [](const base::Context&, const Emit& emit) {
    for (const char* id : {"a", "b", "c"}) emit(Named(id));
    return absl::NotFoundError("no more");
  };
  std::vector<Event> events;
  const grpc::Status status = Call(&events);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(status.error_message(), "no more");
  EXPECT_THAT(Ids(events), ElementsAre("a", "b", "c"));
}

TEST_F(StreamCallTest, AStreamWithoutEventsEndsToo) {
  service_.handler = [](const base::Context&, const Emit&) { return absl::OkStatus(); };
  std::vector<Event> events;
  EXPECT_TRUE(Call(&events).ok());
  EXPECT_THAT(events, SizeIs(0));
}

// Nobody takes events meanwhile: what waits must stay small, and what counts must not be lost.
TEST_F(StreamCallTest, OfProgressThatNobodyTookOnlyTheLastWaits) {
  constexpr uint64_t kEvents = 200'000;
  std::atomic<bool> is_made = false;
  service_.handler = [&](const base::Context&, const Emit& emit) {
    emit(Named("first"));
    for (uint64_t i = 1; i <= kEvents; ++i) emit(Progress(i));
    emit(Named("last"));
    is_made = true;
    return absl::OkStatus();
  };
  grpc::ClientContext context;
  const auto reader = stub_->Pull(&context, crisp::v1::PullRequest());
  ASSERT_TRUE(Eventually([&] { return is_made.load(); }));
  std::vector<Event> events;
  for (Event event; reader->Read(&event);) events.push_back(event);
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_THAT(Ids(events), ElementsAre("first", "last"));
  EXPECT_LT(events.size(), kEvents / 2);
  uint64_t before = 0;
  for (const Event& event : events) {
    if (!event.has_progress()) continue;
    EXPECT_GT(event.progress().bytes_done(), before);
    before = event.progress().bytes_done();
  }
}

TEST_F(StreamCallTest, SeveralThreadsMayEmit) {
  service_.handler = [](const base::Context&, const Emit& emit) {
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        for (int j = 0; j < 100; ++j) emit(Named("x"));
      });
    }
    for (std::thread& thread : threads) thread.join();
    return absl::OkStatus();
  };
  std::vector<Event> events;
  EXPECT_TRUE(Call(&events).ok());
  EXPECT_THAT(events, SizeIs(400));
}

TEST_F(StreamCallTest, ACallerWhoLeavesCancelsTheHandler) {
  absl::Status seen;
  std::atomic<bool> is_over = false;
  service_.handler = [&](const base::Context& ctx, const Emit& emit) {
    emit(Named("first"));
    while (ctx.Check().ok()) {
      emit(Progress(1));
      std::this_thread::yield();
    }
    seen = ctx.Check();
    is_over = true;
    return seen;
  };
  {
    grpc::ClientContext context;
    const auto reader = stub_->Pull(&context, crisp::v1::PullRequest());
    Event event;
    ASSERT_TRUE(reader->Read(&event));
    context.TryCancel();
    EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  ASSERT_TRUE(Eventually([&] { return is_over.load(); }));
  EXPECT_TRUE(absl::IsCancelled(seen)) << seen;
  EXPECT_TRUE(Eventually([&] { return in_flight_.List().empty(); }));
}

}  // namespace
}  // namespace crispd
