#include "base/undo.h"

#include <string>

#include "gtest/gtest.h"

namespace base {
namespace {

TEST(UndoTest, RunsInReverseUnlessCommitted) {
  std::string order;
  {
    Undo undo;
    undo.Add([&] { order += "a"; });
    undo.Add([&] { order += "b"; });
  }
  EXPECT_EQ(order, "ba");
  {
    Undo undo;
    undo.Add([&] { order += "c"; });
    undo.Commit();
  }
  EXPECT_EQ(order, "ba");
}

}  // namespace
}  // namespace base
