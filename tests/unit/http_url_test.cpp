// SPDX-License-Identifier: Apache-2.0
// URLs and addresses of HTTP jobs: what is read, and which tricks are not fallen for.
#include <gtest/gtest.h>

#include <posthouse/error.hpp>
#include <string>

#include "core/address.hpp"
#include "core/http_url.hpp"

namespace posthouse::core {
namespace {

TEST(HttpUrl, IsTakenApart) {
  auto const url = parse_http_url("url", "HTTPS://API.Example.com:8443/a%20b/c?q=1&r=%2F");
  EXPECT_TRUE(url.tls);
  EXPECT_EQ(url.host, "api.example.com");
  EXPECT_EQ(url.port, 8443);
  EXPECT_EQ(url.target, "/a%20b/c?q=1&r=%2F");
  EXPECT_EQ(url.origin(), "https://api.example.com:8443");
  EXPECT_FALSE(url.literal);
  auto const short_one = parse_http_url("url", "http://example.com?x=1");
  EXPECT_EQ(short_one.target, "/?x=1");
  EXPECT_EQ(short_one.authority(), "example.com");
  auto const v6 = parse_http_url("url", "http://[2606:4700::1111]:81/");
  EXPECT_TRUE(v6.literal);
  EXPECT_EQ(v6.authority(), "[2606:4700::1111]:81");
  EXPECT_EQ(parse_http_url("url", "https://[::1]").port, 443);
}

// Whatever could be read as something else is refused.
TEST(HttpUrl, RefusesTricks) {
  for (std::string const trick : {
           "ftp://example.com/",
           "file:///etc/passwd",
           "gopher://example.com/_x",
           "javascript:alert(1)",
           "//example.com/",
           "example.com/",
           "http:example.com",
           "http:/example.com",
           "http:///example.com",
           "http://",
           "http://user@example.com/",
           "http://user:pass@example.com/",
           "http://example.com@127.0.0.1/",
           "http://127.0.0.1#@example.com/",
           "http://example.com#fragment",
           "http://2130706433/",
           "http://0x7f000001/",
           "http://0x7f.0.0.1/",
           "http://017700000001/",
           "http://0177.0.0.1/",
           "http://127.1/",
           "http://127.0.1/",
           "http://127.0.0.1.1/",
           "http://127.0.0.01/",
           "http://256.0.0.1/",
           "http://1.2.3.4./",
           "http://0/",
           "http://localhost./",
           "http://[::1/",
           "http://[::1]x/",
           "http://[fe80::1%25eth0]/",
           "http://[fe80::1%eth0]/",
           "http://[127.0.0.1]/",
           "http://::1/",
           "http://exam%70le.com/",
           "http://127.0.0.1%2f@example.com/",
           "http://ex\xC3\xA4mple.com/",
           "http://\xE2\x91\xA0.com/",
           "http://example\xE3\x80\x82"
           "com/",
           "http://example.com\\@127.0.0.1/",
           "http://example.com\\/",
           "http://example.com/\\..\\x",
           "http://exa mple.com/",
           "http://example.com/a b",
           "http://example.com/\r\nHost: x",
           "http://example.com/%0d%0aHost:%20x",
           "http://example.com/%00",
           "http://example.com\t/",
           " http://example.com/",
           "http://example.com:0/",
           "http://example.com:65536/",
           "http://example.com:80:80/",
           "http://example.com:+80/",
           "http://example.com: 80/",
           "http://example.com:/",
           "http://-example.com/",
           "http://example..com/",
           "http://.example.com/",
           "http://example.com/../admin",
           "http://example.com/a/%2e%2e/admin",
           "http://example.com/a/.%2E/admin",
           "http://example.com/./a",
           "http://example.com/%zz",
           "http://example.com/%1",
           "http://example.com/<script>",
           "http://example.com/{{x}}",
       }) {
    EXPECT_THROW((void)parse_http_url("url", trick), InvalidArgument) << trick;
  }
  EXPECT_THROW((void)parse_http_url("url", "http://example.com/" + std::string(9000, 'a')), InvalidArgument);
  EXPECT_THROW((void)parse_http_url("url", "http://" + std::string(300, 'a') + "/"), InvalidArgument);
  EXPECT_THROW((void)parse_http_url("url", std::string("http://example.com\0.evil.com/", 29)), InvalidArgument);
}

TEST(HttpUrl, LeadsOn) {
  auto const from = parse_http_url("url", "https://a.example/x/y?z=1");
  auto const to = [&](std::string const& location) {
    auto const url = resolve_location(from, location);
    return url.origin() + url.target;
  };
  EXPECT_EQ(to("/b"), "https://a.example/b");
  EXPECT_EQ(to("b?c=d#e"), "https://a.example/x/b?c=d");
  EXPECT_EQ(to("?c"), "https://a.example/x/y?c");
  EXPECT_EQ(to("//b.example/c"), "https://b.example/c");
  EXPECT_EQ(to("http://c.example"), "http://c.example/");
  EXPECT_EQ(to("a/b:c"), "https://a.example/x/a/b:c");
  EXPECT_THROW((void)to("file:///etc/passwd"), InvalidArgument);
  EXPECT_THROW((void)to("//user@b.example/"), InvalidArgument);
  EXPECT_THROW((void)to("../../x"), InvalidArgument);
  EXPECT_FALSE(same_origin(from, parse_http_url("url", "https://a.example:444/")));
  EXPECT_TRUE(same_origin(from, parse_http_url("url", "https://A.example:443/")));
}

TEST(Address, WhatIsNotPublicIsNotReached) {
  struct Case {
    char const* text;
    Reach reach;
  };
  for (auto const& [text, reach] : {
           Case{"0.0.0.0", Reach::special},
           Case{"0.1.2.3", Reach::special},
           Case{"10.0.0.1", Reach::private_net},
           Case{"100.64.0.1", Reach::private_net},
           Case{"100.127.255.255", Reach::private_net},
           Case{"127.0.0.1", Reach::loopback},
           Case{"127.255.255.254", Reach::loopback},
           Case{"169.254.169.254", Reach::link_local},
           Case{"172.16.0.1", Reach::private_net},
           Case{"172.31.255.255", Reach::private_net},
           Case{"192.0.0.1", Reach::special},
           Case{"192.0.2.1", Reach::special},
           Case{"192.88.99.1", Reach::special},
           Case{"192.168.1.1", Reach::private_net},
           Case{"198.18.0.1", Reach::special},
           Case{"198.19.255.255", Reach::special},
           Case{"198.51.100.1", Reach::special},
           Case{"203.0.113.1", Reach::special},
           Case{"224.0.0.1", Reach::special},
           Case{"240.0.0.1", Reach::special},
           Case{"255.255.255.255", Reach::special},
           Case{"::", Reach::special},
           Case{"::1", Reach::loopback},
           Case{"::ffff:127.0.0.1", Reach::loopback},
           Case{"::ffff:7f00:1", Reach::loopback},
           Case{"::ffff:10.0.0.1", Reach::private_net},
           Case{"::127.0.0.1", Reach::loopback},
           Case{"::8.8.8.8", Reach::special},
           Case{"64:ff9b::a9fe:a9fe", Reach::link_local},
           Case{"64:ff9b:1::1", Reach::special},
           Case{"2002:7f00:1::", Reach::loopback},
           Case{"2002:a00:1::", Reach::private_net},
           Case{"2001::1", Reach::special},
           Case{"2001:db8::1", Reach::special},
           Case{"3fff::1", Reach::special},
           Case{"100::1", Reach::special},
           Case{"fc00::1", Reach::private_net},
           Case{"fd00:ec2::254", Reach::private_net},
           Case{"fe80::1", Reach::link_local},
           Case{"fec0::1", Reach::private_net},
           Case{"ff02::1", Reach::special},
           Case{"5f00::1", Reach::special},
       }) {
    auto const address = Address::parse(text);
    ASSERT_TRUE(address) << text;
    EXPECT_EQ(name_of(reach_of(*address)), name_of(reach)) << text;
    EXPECT_FALSE(is_allowed(*address, {})) << text;
  }
  for (auto const* text :
       {"8.8.8.8", "1.1.1.1", "100.63.255.255", "100.128.0.0", "172.15.0.1", "172.32.0.1", "169.253.255.255",
        "192.169.0.1", "223.255.255.255", "2606:4700::1111", "2a00:1450::1", "64:ff9b::808:808", "2002:808:808::"}) {
    EXPECT_TRUE(is_allowed(*Address::parse(text), {})) << text;
  }
}

TEST(Address, OnlyTheUsualTextsAreAddresses) {
  for (auto const* text :
       {"127.1", "0x7f.0.0.1", "0177.0.0.1", "2130706433", "1.2.3.4 ", "[::1]", "fe80::1%eth0", "", "::g"}) {
    EXPECT_FALSE(Address::parse(text)) << text;
  }
  EXPECT_EQ(Address::parse("::ffff:1.2.3.4")->text(), "1.2.3.4");
  EXPECT_EQ(Address::parse("2606:4700:0:0::1111")->text(), "2606:4700::1111");
}

TEST(Address, RulesAllowWhatTheySay) {
  auto const allows = [](char const* rule, char const* address) {
    return is_allowed(*Address::parse(address), {AddressRule("rule", rule)});
  };
  EXPECT_TRUE(allows("loopback", "127.0.0.1"));
  EXPECT_TRUE(allows("loopback", "::1"));
  EXPECT_FALSE(allows("loopback", "10.0.0.1"));
  EXPECT_TRUE(allows("private", "fd00::1"));
  EXPECT_FALSE(allows("private", "169.254.169.254"));
  EXPECT_TRUE(allows("link-local", "fe80::1"));
  EXPECT_TRUE(allows("10.1.0.0/16", "10.1.255.255"));
  EXPECT_FALSE(allows("10.1.0.0/16", "10.2.0.0"));
  EXPECT_TRUE(allows("10.1.0.0/16", "::ffff:10.1.2.3"));
  EXPECT_TRUE(allows("127.0.0.1", "127.0.0.1"));
  EXPECT_FALSE(allows("127.0.0.1", "127.0.0.2"));
  EXPECT_TRUE(allows("fd00::/8", "fd12::1"));
  EXPECT_FALSE(allows("fd00::/8", "fc12::1"));
  EXPECT_TRUE(allows("0.0.0.0/0", "127.0.0.1"));
  EXPECT_FALSE(allows("0.0.0.0/0", "::1"));
  for (auto const* wrong :
       {"", "public", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/8x", "::/129", "example.com"}) {
    EXPECT_THROW((AddressRule("rule", wrong)), InvalidArgument) << wrong;
  }
}

}  // namespace
}  // namespace posthouse::core
