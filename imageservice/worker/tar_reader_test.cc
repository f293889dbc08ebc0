// The formats of tar, byte by byte.
#include "imageservice/worker/tar_reader.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "base/files.h"
#include "base/strings.h"
#include "imageservice/worker/test_archive.h"

namespace imageservice::worker {
namespace {

using Type = ArchiveEntry::Type;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

struct Read {
  ArchiveEntry entry;
  std::string content;  // With its holes filled.
};

absl::StatusOr<std::vector<Read>> ReadAll(const std::string& bytes) {
  const base::UniqueFd archive(memfd_create("archive", MFD_CLOEXEC));
  EXPECT_TRUE(base::WriteAll(archive.get(), bytes, "archive").ok());
  lseek(archive.get(), 0, SEEK_SET);
  TarReader reader(archive.get());
  std::vector<Read> all;
  for (;;) {
    Read one;
    const auto has_entry = reader.Next(&one.entry);
    if (!has_entry.ok()) return has_entry.status();
    if (!*has_entry) return all;
    EXPECT_LT(one.entry.size, 100u << 20);
    one.content.resize(one.entry.size);
    for (;;) {
      const auto piece = reader.ReadContent();
      if (!piece.ok()) return piece.status();
      if (piece->bytes.empty()) break;
      one.content.replace(piece->offset, piece->bytes.size(), piece->bytes);
    }
    all.push_back(std::move(one));
  }
}

Read ReadOne(const std::vector<TarEntry>& entries) {
  const auto all = ReadAll(Tar(entries));
  EXPECT_TRUE(all.ok()) << all.status();
  EXPECT_EQ(all.ok() ? all->size() : 1, 1u);
  return all.ok() && !all->empty() ? all->front() : Read();
}

absl::Status ErrorOf(const std::vector<TarEntry>& entries) {
  return ReadAll(Tar(entries)).status();
}

std::string Octal(uint64_t value, size_t width) {
  std::string digits(width - 1, '0');
  for (size_t i = width - 1; i-- > 0; value /= 8) digits[i] = static_cast<char>('0' + value % 8);
  return digits + '\0';
}

TEST(TarReaderTest, ReadsTheUstarPrefix) {
  const Read read = ReadOne({{.name = "f", .content = "x", .patch = {{345, "usr/share"}}}});
  EXPECT_EQ(read.entry.path, "usr/share/f");
}

TEST(TarReaderTest, OldHeadersHaveNoPrefixAndASlashMakesADirectory) {
  const std::string no_magic(8, '\0');
  EXPECT_EQ(ReadOne({{.name = "f", .patch = {{257, no_magic}, {345, "junk"}}}}).entry.path, "f");
  const std::string nul(1, '\0');
  EXPECT_EQ(ReadOne({{.name = "d/", .patch = {{156, nul}}}}).entry.type, Type::kDirectory);
  EXPECT_EQ(ReadOne({{.name = "f", .patch = {{156, nul}}}}).entry.type, Type::kFile);
  EXPECT_EQ(ReadOne({{.name = "f/"}}).entry.type, Type::kFile) << "as containerd reads it";
}

TEST(TarReaderTest, StarsTimesAreNoPartOfThePrefix) {
  const Read read =
      ReadOne({{.name = "f",
                .patch = {{345, "dir"}, {476, "12345670123 "}, {508, std::string("tar\0", 4)}}}});
  EXPECT_EQ(read.entry.path, "dir/f");
}

TEST(TarReaderTest, ReadsGnuLongNamesAndTargets) {
  const std::string name(300, 'n');
  const std::string target(5000, 't');
  const Read read = ReadOne({{.name = "././@LongLink", .type = 'L', .content = name + '\0'},
                             {.name = "././@LongLink", .type = 'K', .content = target + '\0'},
                             {.name = "nnn", .type = '2', .link = "ttt"}});
  EXPECT_EQ(read.entry.path, name);
  EXPECT_EQ(read.entry.link, target);
}

TEST(TarReaderTest, PaxComesBeforeGnuAndThatBeforeTheHeader) {
  EXPECT_EQ(ReadOne({{.type = 'L', .content = "gnu"}, {.name = "old", .pax = {{"path", "pax"}}}})
                .entry.path,
            "pax");
}

TEST(TarReaderTest, NamesAndTargetsAreBytes) {
  // Text of several character sets, none in the header itself, as Go's archiver leaves it; and
  // letters that some would compose.
  for (const std::string text : {"\xe6\x97\xa5\xe6\x9c\xac", "caf\xe9", "e\xcc\x81", "a\nb=c 7\n",
                                 "\xff\xfe", "\x01\x1b[31m"}) {
    const auto all = ReadAll(Tar({{.name = "", .pax = {{"path", text}}},
                                  {.name = "s", .type = '2', .pax = {{"linkpath", text}}},
                                  {.name = "h", .type = '1', .pax = {{"linkpath", text}}},
                                  {.name = text, .type = '2', .link = text}}));
    ASSERT_TRUE(all.ok()) << all.status();
    EXPECT_EQ((*all)[0].entry.path, text);
    EXPECT_EQ((*all)[1].entry.link, text);
    EXPECT_EQ((*all)[1].entry.type, Type::kSymlink);
    EXPECT_EQ((*all)[2].entry.link, text);
    EXPECT_EQ((*all)[2].entry.type, Type::kHardLink);
    EXPECT_EQ((*all)[3].entry.path, text);
    EXPECT_EQ((*all)[3].entry.link, text);
  }
}

TEST(TarReaderTest, PaxOverridesNumbersAndEmptyValuesDoNot) {
  const Read read = ReadOne({{.name = "f",
                              .uid = 1,
                              .gid = 2,
                              .mtime = 3,
                              .pax = {{"uid", "4000000000"},
                                      {"gid", ""},
                                      {"mtime", "1700000000.0123456789"},
                                      {"atime", "-1.25"},
                                      {"path", ""},
                                      {"comment", "no one reads it"}}}});
  EXPECT_EQ(read.entry.path, "f");
  EXPECT_EQ(read.entry.metadata.uid, 4000000000u);
  EXPECT_EQ(read.entry.metadata.gid, 2u);
  EXPECT_EQ(read.entry.metadata.mtime.tv_sec, 1700000000);
  EXPECT_EQ(read.entry.metadata.mtime.tv_nsec, 12345678);
  EXPECT_EQ(read.entry.metadata.atime.tv_sec, -2);
  EXPECT_EQ(read.entry.metadata.atime.tv_nsec, 750000000);
}

TEST(TarReaderTest, NumbersBeyondOctalAreTwosComplement) {
  const std::string minus_two = std::string("\xff", 1) + std::string(10, '\xff') + '\xfe';
  const std::string uid = std::string("\x80\0\0\0\xee\x6b\x28\0", 8);
  const Read read = ReadOne({{.name = "f", .patch = {{136, minus_two}, {108, uid}}}});
  EXPECT_EQ(read.entry.metadata.mtime.tv_sec, -2);
  EXPECT_EQ(read.entry.metadata.uid, 4000000000u);
  EXPECT_EQ(ParseTarNumber(std::string("\x80\x7f", 2) + std::string(10, '\xff')).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ParseTarNumber("  755 \0").value(), 0755);
  EXPECT_EQ(ParseTarNumber("").value(), 0);
  EXPECT_FALSE(ParseTarNumber("0789").ok());
  EXPECT_FALSE(ParseTarNumber("-1").ok());
  EXPECT_FALSE(ParseTarNumber("777777777777777777777777").ok());
}

TEST(TarReaderTest, XattrsAreBytesInEitherForm) {
  const Read read = ReadOne({{.name = "f",
                              .pax = {{"LIBARCHIVE.xattr.user.a%3db", "AQID"},
                                      {"SCHILY.xattr.user.n", std::string("\0=\n", 3)}}}});
  EXPECT_THAT(read.entry.metadata.xattrs,
              ElementsAre(std::pair<std::string, std::string>("user.a=b", "\x01\x02\x03"),
                          std::pair<std::string, std::string>("user.n", std::string("\0=\n", 3))));
  EXPECT_FALSE(ErrorOf({{.name = "f", .pax = {{"LIBARCHIVE.xattr.user.a", "!"}}}}).ok());
}

TEST(TarReaderTest, GlobalHeadersAreSkipped) {
  EXPECT_EQ(ReadOne({{.name = "pax_global_header",
                      .type = 'g',
                      .content = PaxRecords({{"path", "elsewhere"}, {"uid", "7"}})},
                     {.name = "f"}})
                .entry.path,
            "f");
}

// --- sparse files -------------------------------------------------------------------------------

const char kHoles[] = "\0\0\0\0\0\0\0\0";

TEST(TarReaderTest, ReadsGnusOldSparseFormat) {
  const std::string map =
      Octal(2, 12) + Octal(3, 12) + Octal(8, 12) + Octal(2, 12) + Octal(12, 12) + Octal(0, 12);
  const Read read =
      ReadOne({{.name = "f",
                .type = 'S',
                .content = "abcde",
                .patch = {{257, std::string("ustar  \0", 8)}, {386, map}, {483, Octal(12, 12)}}}});
  EXPECT_EQ(read.content, std::string(kHoles, 2) + "abc" + std::string(kHoles, 3) + "de" +
                              std::string(kHoles, 2));
}

TEST(TarReaderTest, ReadsMoreExtentsOfTheOldSparseFormatThanTheHeaderHolds) {
  std::string first;
  std::string more;
  std::string content;
  std::string expected;
  for (unsigned i = 0; i < 4 + 21 + 5; ++i) {
    const char c = static_cast<char>('a' + i % 26);
    (i < 4 ? first : more) += Octal(4 * i, 12) + Octal(1, 12);
    if (i == 4 + 21 - 1) more += std::string("\x01", 1) + std::string(7, '\0');
    content += c;
    expected += std::string(1, c) + std::string(kHoles, 3);
  }
  more.resize(1024);
  std::string bytes = TarBytes({.name = "f",
                                .type = 'S',
                                .content = content,
                                .patch = {{257, std::string("ustar  \0", 8)},
                                          {386, first},
                                          {482, "\x01"},
                                          {483, Octal(expected.size(), 12)}}});
  bytes.insert(512, more);
  const auto all = ReadAll(bytes + TarBytes({.name = "next"}));
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_EQ((*all)[0].content, expected);
  EXPECT_EQ((*all)[1].entry.path, "next");
}

TEST(TarReaderTest, ReadsThePaxSparseFormats) {
  const std::string expected = std::string(kHoles, 2) + "abc" + std::string(kHoles, 3) + "de";
  // Keys repeat in 0.0, so their order counts.
  const std::string records = PaxRecords({{"GNU.sparse.size", "10"},
                                          {"GNU.sparse.numblocks", "2"},
                                          {"GNU.sparse.offset", "2"},
                                          {"GNU.sparse.numbytes", "3"},
                                          {"GNU.sparse.offset", "8"},
                                          {"GNU.sparse.numbytes", "2"}});
  EXPECT_EQ(
      ReadOne({{.name = "pax", .type = 'x', .content = records}, {.name = "f", .content = "abcde"}})
          .content,
      expected);
  const Read with_map = ReadOne({{.name = "GNUSparseFile.1/f",
                                  .content = "abcde",
                                  .pax = {{"GNU.sparse.map", "2,3,8,2"},
                                          {"GNU.sparse.name", "f"},
                                          {"GNU.sparse.numblocks", "2"},
                                          {"GNU.sparse.size", "10"}}}});
  EXPECT_EQ(with_map.content, expected);
  EXPECT_EQ(with_map.entry.path, "f");
  std::string map = "2\n2\n3\n8\n2\n";
  map.resize(512);
  const Read newest = ReadOne({{.name = "GNUSparseFile.1/f",
                                .content = map + "abcde",
                                .pax = {{"GNU.sparse.major", "1"},
                                        {"GNU.sparse.minor", "0"},
                                        {"GNU.sparse.name", "f"},
                                        {"GNU.sparse.realsize", "10"}}}});
  EXPECT_EQ(newest.content, expected);
  EXPECT_EQ(newest.entry.path, "f");
}

TEST(TarReaderTest, SparseMapsMustFit) {
  const auto with_map = [](const std::string& map, const std::string& size) {
    return ErrorOf(
        {{.name = "f",
          .content = "abcde",
          .pax = {
              {"GNU.sparse.map", map}, {"GNU.sparse.numblocks", "2"}, {"GNU.sparse.size", size}}}});
  };
  EXPECT_TRUE(with_map("0,3,5,2", "7").ok());
  for (const char* map : {"0,3,2,2", "5,2,0,3", "0,3,6,2", "0,3,5,3", "0,5,9223372036854775807,0",
                          "0,3,5", "0,-3,5,8", "a,b", "0,9223372036854775807,0,5"}) {
    EXPECT_EQ(with_map(map, "7").code(), absl::StatusCode::kInvalidArgument) << map;
  }
  for (std::string map : {"1\n0\n4\n", "x\n", "1\n0\n", "99999999999999999999999\n", "2000000\n"}) {
    map.resize(512);
    const absl::Status status = ErrorOf({{.name = "f",
                                          .content = map + "abcde",
                                          .pax = {{"GNU.sparse.major", "1"},
                                                  {"GNU.sparse.minor", "0"},
                                                  {"GNU.sparse.realsize", "10"}}}});
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << map;
  }
}

// --- the stream ---------------------------------------------------------------------------------

TEST(TarReaderTest, ContentOfAnySizeIsWhole) {
  for (const size_t size : {0u, 1u, 511u, 512u, 513u, 65536u, 65537u, 262144u, 1000000u}) {
    std::string content(size, '\0');
    for (size_t i = 0; i < size; ++i) content[i] = static_cast<char>(i * 7 + i / 251);
    const auto all = ReadAll(
        Tar({{.name = "a", .content = "odd"}, {.name = "f", .content = content}, {.name = "b"}}));
    ASSERT_TRUE(all.ok()) << size << all.status();
    EXPECT_EQ((*all)[1].content, content) << size;
    EXPECT_EQ((*all)[2].entry.path, "b") << size;
  }
}

TEST(TarReaderTest, EndsAtTheMarkOrAtTheStreamsEndBetweenEntries) {
  const std::string entry = TarBytes({.name = "f", .content = "x"});
  EXPECT_EQ(ReadAll("").value().size(), 0u);
  EXPECT_EQ(ReadAll(entry).value().size(), 1u);
  EXPECT_EQ(ReadAll(entry + std::string(512, '\0')).value().size(), 1u);
  EXPECT_EQ(ReadAll(entry + std::string(1024, '\0') + entry).value().size(), 1u);
  EXPECT_EQ(ReadAll(entry.substr(0, 513)).value().size(), 1u) << "filler is not missed at the end";
  EXPECT_FALSE(ReadAll(entry + std::string(512, '\0') + entry).ok()) << "half an end mark";
}

TEST(TarReaderTest, EndsWithinAnEntryAreErrors) {
  const std::string bytes =
      TarBytes({.name = "f", .content = std::string(600, 'x'), .pax = {{"path", "long"}}});
  for (size_t size = 1; size < bytes.size() - 424; ++size) {
    EXPECT_EQ(ReadAll(bytes.substr(0, size)).status().code(), absl::StatusCode::kInvalidArgument)
        << size;
  }
  EXPECT_FALSE(ReadAll(TarBytes({.type = 'L', .content = "no entry follows"})).ok());
}

TEST(TarReaderTest, OnlyFilesHaveContent) {
  for (const char type : {'1', '2', '3', '4', '5', '6'}) {
    const auto all =
        ReadAll(Tar({{.name = "e", .type = type, .link = "x", .size = 4096}, {.name = "next"}}));
    ASSERT_TRUE(all.ok()) << type << all.status();
    EXPECT_EQ(all->size(), 2u) << type;
  }
}

TEST(TarReaderTest, TypesThatNoLayerHasAreNamed) {
  for (const char type : {'V', 'M', 'D', 'A', 'Z'}) {
    const absl::Status status = ErrorOf({{.name = "e", .type = type}});
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << type;
    EXPECT_THAT(std::string(base::ToStd(status.message())),
                HasSubstr("type " + std::to_string(type)));
  }
}

TEST(TarReaderTest, MalformedRecordsAreDamage) {
  for (const std::string records :
       {"x", "5", "5 a=", "6 a=b\n7", "99 path=x\n", "0 a=b\n", "-6 a=b\n", "6 a=bc\n", "6 =bc\n",
        "6 abc\n", "99999999999999999999 a=b\n", "10 size=-1\n", "9 size=x\n", "11 mtime=1.x\n"}) {
    const absl::Status status = ErrorOf({{.type = 'x', .content = records}, {.name = "f"}});
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << records;
  }
  const std::string nul = PaxRecords({{"path", std::string("a\0b", 3)}});
  EXPECT_FALSE(ErrorOf({{.type = 'x', .content = nul}, {.name = "f"}}).ok());
}

TEST(TarReaderTest, HeadersAreLimited) {
  EXPECT_FALSE(ErrorOf({{.type = 'x', .content = std::string((1 << 20) + 1, 'x')}}).ok());
  EXPECT_FALSE(ErrorOf({{.type = 'L', .size = int64_t{1} << 32}}).ok());
  EXPECT_FALSE(ErrorOf({{.type = 'g', .size = int64_t{1} << 32}}).ok());
  const std::string minus_one(12, '\xff');
  for (const char type : {'0', 'x', 'L', 'g', 'S'}) {
    EXPECT_EQ(ErrorOf({{.name = "f", .type = type, .patch = {{124, minus_one}}}}).code(),
              absl::StatusCode::kInvalidArgument)
        << type;
  }
}

TEST(TarReaderTest, SignedChecksumsAreAccepted) {
  std::string bytes = TarBytes({.name = "caf\xe9"});
  int sum = 0;
  for (size_t i = 0; i < 512; ++i) {
    sum += i >= 148 && i < 156 ? ' ' : static_cast<signed char>(bytes[i]);
  }
  bytes.replace(148, 8, Octal(static_cast<uint64_t>(sum), 8));
  EXPECT_EQ(ReadAll(bytes).value().size(), 1u);
  bytes.replace(148, 8, Octal(static_cast<uint64_t>(sum + 1), 8));
  EXPECT_FALSE(ReadAll(bytes).ok());
}

}  // namespace
}  // namespace imageservice::worker
