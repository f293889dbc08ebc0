#include "base/record_store.h"

#include <zlib.h>

#include "base/strings.h"
#include "gtest/gtest.h"

namespace base {
namespace {

class RecordStoreTest : public testing::Test {
 protected:
  RecordStoreTest() {
    char name[] = "/tmp/crisp-records-XXXXXX";
    directory_ = mkdtemp(name);
  }
  ~RecordStoreTest() override { EXPECT_TRUE(RemoveTree(directory_).ok()); }
  RecordStore OpenStore() { return *RecordStore::Open(directory_, Durability::kVolatile); }
  std::string directory_;
};

TEST_F(RecordStoreTest, KeepsWhatWasPut) {
  const RecordStore store = OpenStore();
  ASSERT_TRUE(store.Put("a", "one").ok());
  ASSERT_TRUE(store.Put("a", std::string("two\0three", 9)).ok());
  ASSERT_TRUE(store.Put("b", "").ok());
  EXPECT_EQ(*OpenStore().Get("a"), std::string("two\0three", 9));
  EXPECT_EQ(OpenStore().Load()->records.size(), 2u);
  ASSERT_TRUE(store.Delete("a").ok());
  EXPECT_TRUE(store.Delete("a").ok());
  EXPECT_TRUE(absl::IsNotFound(store.Get("a").status()));
}

TEST_F(RecordStoreTest, CutAtEveryByteIsSetAsideAndTheRestLoads) {
  const RecordStore store = OpenStore();
  ASSERT_TRUE(store.Put("whole", "kept").ok());
  ASSERT_TRUE(store.Put("cut", "the bytes of a record").ok());
  const std::string path = StrCat(directory_, "/cut");
  const std::string file = *ReadFile(path);
  for (size_t length = 0; length < file.size(); ++length) {
    ASSERT_TRUE(ReplaceFile(path, file.substr(0, length), 0600, Durability::kVolatile).ok());
    const auto loaded = store.Load();
    ASSERT_TRUE(loaded.ok());
    EXPECT_EQ(loaded->records.size(), 1u) << length;
    EXPECT_EQ(loaded->damaged, std::vector<std::string>{"cut"}) << length;
    EXPECT_FALSE(Exists(path));
  }
}

TEST_F(RecordStoreTest, EveryFlippedBitIsNoticed) {
  const RecordStore store = OpenStore();
  ASSERT_TRUE(store.Put("r", "payload").ok());
  const std::string path = StrCat(directory_, "/r");
  const std::string file = *ReadFile(path);
  for (size_t bit = 0; bit < file.size() * 8; ++bit) {
    std::string flipped = file;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    ASSERT_TRUE(ReplaceFile(path, flipped, 0600, Durability::kVolatile).ok());
    EXPECT_FALSE(store.Get("r").ok()) << bit;
  }
}

TEST_F(RecordStoreTest, TemporaryFilesOfACrashGo) {
  ASSERT_TRUE(ReplaceFile(StrCat(directory_, "/a.tmp-1-2"), "x", 0600, Durability::kVolatile).ok());
  const RecordStore store = OpenStore();
  EXPECT_TRUE(store.Load()->records.empty());
  EXPECT_FALSE(Exists(StrCat(directory_, "/a.tmp-1-2")));
}

TEST_F(RecordStoreTest, NamesCannotLeaveTheDirectory) {
  for (const char* name : {"", ".", "..", "../x", "a/b", ".hidden", "corrupt"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(OpenStore().Put(name, "x"))) << name;
  }
}

TEST_F(RecordStoreTest, ARecordOfANewerVersionStopsTheLoadAndStays) {
  // Version 2 with the checksum of "x" begun with 2: crc32(2, "x").
  const RecordStore store = OpenStore();
  ASSERT_TRUE(store.Put("r", "x").ok());
  const std::string path = StrCat(directory_, "/r");
  std::string file = *ReadFile(path);
  const auto crc = static_cast<uint32_t>(crc32(2, reinterpret_cast<const Bytef*>("x"), 1));
  file[4] = 2;
  for (size_t i = 0; i < 4; ++i) {
    file[12 + i] = static_cast<char>(crc >> (8 * i) & 0xff);
  }
  ASSERT_TRUE(ReplaceFile(path, file, 0600, Durability::kVolatile).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(store.Load().status()));
  EXPECT_TRUE(Exists(path));
}

}  // namespace
}  // namespace base
