#include "runtimeservice/streaming/async.h"

#include <gtest/gtest.h>

#include <vector>

namespace streaming {
namespace {

Task<> AppendInTurn(Turns& turns, Signal& step, int number, std::vector<int>* order) {
  const Turns::Turn turn = co_await turns.Take();
  order->push_back(number);
  co_await step.Wait();
  order->push_back(number);
}

TEST(AsyncTest, TurnsAreServedInTheOrderOfAsking) {
  asio::io_context loop;
  Turns turns(loop);
  Signal step(loop);
  std::vector<int> order;
  for (int number = 0; number < 3; ++number) {
    Spawn(loop, AppendInTurn(turns, step, number, &order));
  }
  for (int number = 0; number < 3; ++number) {
    loop.poll();
    step.Notify();
    loop.restart();
  }
  loop.run();
  EXPECT_EQ(order, (std::vector<int>{0, 0, 1, 1, 2, 2}));
}

Task<> WaitShortly(Signal& signal, bool* came) {
  *came = co_await signal.WaitFor(absl::Milliseconds(1));
}

TEST(AsyncTest, AWaitWithALimitEnds) {
  asio::io_context loop;
  Signal signal(loop);
  bool came = true;
  Spawn(loop, WaitShortly(signal, &came));
  loop.run();
  EXPECT_FALSE(came);
}

TEST(AsyncTest, ANotificationWakesAWaitWithALimit) {
  asio::io_context loop;
  Signal signal(loop);
  bool came = false;
  Spawn(loop, WaitShortly(signal, &came));
  loop.poll_one();
  signal.Notify();
  loop.run();
  EXPECT_TRUE(came);
}

TEST(AsyncTest, TheOthersLeavingIsACancellation) {
  EXPECT_TRUE(absl::IsCancelled(ToStatus(asio::error::eof, "read")));
  EXPECT_TRUE(ToStatus(Error(), "read").ok());
  EXPECT_EQ(ToStatus(asio::error::access_denied, "connect").message(),
            "connect: Permission denied");
}

}  // namespace
}  // namespace streaming
