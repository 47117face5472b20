// The fields that negotiate QUIC-aware proxying.

#include "ngmasque/session/forwarding_fields.h"

#include "ngmasque/wire/structured_field.h"

#include <gtest/gtest.h>

#include <numeric>

namespace ngmasque {
namespace {

using Fields = std::vector<HeaderField>;
using enum Transform;

// Bytes 0 to 31, and how they are written.
ScrambleKey Key() {
  ScrambleKey key;
  std::iota(key.begin(), key.end(), std::uint8_t{0});
  return key;
}
constexpr std::string_view kKeyText = ":AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=:";

std::string WithKey(std::string_view text) {
  return std::string(text) + ";scramble-key=" + std::string(kKeyText);
}

// Among other fields.
Fields Message(std::string_view name, std::string_view value) {
  return {{":method", "CONNECT"}, {std::string(name), std::string(value)}, {"x-other", "?1"}};
}

std::optional<ForwardingOffer> Offer(std::string_view value) {
  return ReadOffer(Message("proxy-quic-forwarding", value));
}
std::optional<ForwardingAnswer> Answer(std::string_view value) {
  return ReadAnswer(Message("proxy-quic-forwarding", value));
}

//= draft-ietf-masque-quic-proxy, section 6.3.2
//# Deployments that implement the version of the `scramble` transform defined in this document MUST
//# use the value "scramble-dt".
TEST(ForwardingFields, NamesOfTransforms) {
  EXPECT_EQ(TransformName(kIdentity), "identity");
  EXPECT_EQ(TransformName(kScrambleDt), "scramble-dt");
  for (const auto transform : {kIdentity, kScrambleDt}) {
    EXPECT_EQ(FindTransform(TransformName(transform)), transform);
  }
  for (const auto *name : {"", "scramble", "scramble-dt ", "Identity", "scramble-d"}) {
    EXPECT_FALSE(FindTransform(name)) << name;
  }
  EXPECT_TRUE(NeedsKey(kScrambleDt));
  EXPECT_FALSE(NeedsKey(kIdentity));
}

// The example of the draft, section 7, with the name of the transform that there is.
TEST(ForwardingFields, OfferOfTheExample) {
  EXPECT_EQ(Offer(WithKey(R"(?1; accept-transform="scramble-dt,identity")")),
            (ForwardingOffer{.forwarding = true,
                             .transforms = {kScrambleDt, kIdentity},
                             .key = Key()}));
  EXPECT_EQ(Answer(WithKey(R"(?1; transform="scramble-dt")")),
            (ForwardingAnswer{.forwarding = true, .transform = "scramble-dt", .key = Key()}));
}

//= draft-ietf-masque-quic-proxy, section 3
//# If advertising support for forwarding, the client MUST add an "accept-transform" parameter whose
//# value is a String containing the supported packet transforms
//
//= draft-ietf-masque-quic-proxy, section 3
//# The proxy MUST include a "transform" parameter whose value is a String indicating the selected
//# transform.
//
//= draft-ietf-masque-quic-proxy, section 3
//# Clients MUST NOT send the "transform" parameter and servers MUST NOT send the "accept-transform"
//# parameter.
TEST(ForwardingFields, WrittenAndReadAgain) {
  const ForwardingOffer offer{.forwarding = true,
                              .transforms = {kScrambleDt, kIdentity},
                              .key = Key()};
  EXPECT_EQ(OfferField(offer),
            (HeaderField{"proxy-quic-forwarding",
                         WithKey(R"(?1;accept-transform="scramble-dt,identity")")}));
  EXPECT_EQ(ReadOffer(Fields{OfferField(offer)}), offer);

  const ForwardingAnswer answer{.forwarding = true, .transform = "scramble-dt", .key = Key()};
  EXPECT_EQ(AnswerField(answer), (HeaderField{"proxy-quic-forwarding",
                                              WithKey(R"(?1;transform="scramble-dt")")}));
  EXPECT_EQ(ReadAnswer(Fields{AnswerField(answer)}), answer);
}

//= draft-ietf-masque-quic-proxy, section 6.3.2
//# When offering or selecting this transform, the client and server each generate the key that they
//# will use to encrypt scrambled packets and MUST add it to the "Proxy-QUIC-Forwarding" header in
//# an `sf-binary` parameter named "scramble-key".
TEST(ForwardingFields, KeysAreWrittenForTransformsThatNeedOne) {
  EXPECT_EQ(OfferField({.forwarding = true, .transforms = {kIdentity}, .key = Key()}).value,
            R"(?1;accept-transform="identity")");
  EXPECT_EQ(OfferField({.forwarding = true, .transforms = {kScrambleDt}, .key = {}}).value,
            R"(?1;accept-transform="scramble-dt")");
  EXPECT_EQ(AnswerField({.forwarding = true, .transform = "identity", .key = Key()}).value,
            R"(?1;transform="identity")");
  EXPECT_EQ(AnswerField({.forwarding = true, .transform = "rot13", .key = Key()}).value,
            R"(?1;transform="rot13")");
}

//= draft-ietf-masque-quic-proxy, section 3
//# If the proxy does not recognize or accept
//# any of the transforms offered by the client, it MUST omit this parameter and
//# set the header field value to "?0", or omit the header entirely.
TEST(ForwardingFields, NoForwardingIsWrittenWithoutParameters) {
  EXPECT_EQ(OfferField({.forwarding = false, .transforms = {kScrambleDt}, .key = Key()}).value,
            "?0");
  EXPECT_EQ(OfferField({.forwarding = true, .transforms = {}, .key = Key()}).value, "?0");
  EXPECT_EQ(AnswerField({.forwarding = false, .transform = "identity", .key = Key()}).value, "?0");
  EXPECT_EQ(AnswerField({.forwarding = true, .transform = {}, .key = {}}).value, "?0");
  EXPECT_EQ(AnswerField({.forwarding = true, .transform = "line\nend", .key = {}}).value, "?0")
    << "no String";
}

//= draft-ietf-masque-quic-proxy, section 3
//# If the proxy receives a
//# "Proxy-QUIC-Forwarding" header with a value of "?1" and without the "accept-transform"
//# parameter, it MUST ignore the header and respond as if the client had not sent the
//# "Proxy-QUIC-Forwarding" header.
TEST(ForwardingFields, OfferWithoutAcceptTransform) {
  EXPECT_FALSE(Offer("?1"));
  EXPECT_FALSE(Offer(WithKey("?1")));
  EXPECT_FALSE(Offer(R"(?1;transform="identity")"));
  EXPECT_FALSE(Offer("?1;accept-transform"));
  EXPECT_FALSE(Offer("?1;accept-transform=identity")) << "a Token is no String";
  EXPECT_FALSE(Offer("?1;accept-transform=:aWRlbnRpdHk=:"));
  // Not to forward needs none.
  EXPECT_EQ(Offer("?0"), ForwardingOffer{});
  EXPECT_EQ(Offer(R"(?0;accept-transform="identity")"),
            (ForwardingOffer{.forwarding = false, .transforms = {kIdentity}, .key = {}}));
}

TEST(ForwardingFields, TransformsThatAreOffered) {
  const auto transforms = [](std::string_view list) {
    return Offer("?1;accept-transform=\"" + std::string(list) + "\"").value().transforms;
  };
  using List = std::vector<Transform>;
  EXPECT_EQ(transforms("identity,scramble-dt"), (List{kIdentity, kScrambleDt}));
  EXPECT_EQ(transforms(" scramble-dt ,  identity "), (List{kScrambleDt, kIdentity}));
  EXPECT_EQ(transforms("x,scramble,identity"), List{kIdentity});
  EXPECT_EQ(transforms("identity,scramble-dt,identity,scramble-dt"),
            (List{kIdentity, kScrambleDt}));
  EXPECT_EQ(transforms(",,identity,,"), List{kIdentity});
  // Nothing that is known: to be answered with ?0.
  for (const auto *list : {"", " ", ",", "scramble", "identity scramble-dt", "Identity"}) {
    EXPECT_EQ(transforms(list), List{}) << list;
  }
  // However many there are, each known one is there once.
  std::string many;
  for (int i = 0; i < 4000; ++i) {
    many += "identity,x,";
  }
  EXPECT_EQ(transforms(many), List{kIdentity});
}

//= draft-ietf-masque-quic-proxy, section 3
//# Clients MUST ignore receipt of an "accept-transform"
//# parameter and servers MUST ignore receipt of a "transform" parameter.
TEST(ForwardingFields, ParametersOfTheOtherSideAreIgnored) {
  EXPECT_EQ(Offer(R"(?1;transform="scramble-dt";accept-transform="identity")"),
            (ForwardingOffer{.forwarding = true, .transforms = {kIdentity}, .key = {}}));
  EXPECT_EQ(Answer(R"(?1;transform="scramble-dt";accept-transform="identity")"),
            (ForwardingAnswer{.forwarding = true, .transform = "scramble-dt", .key = {}}));
  EXPECT_EQ(Answer(R"(?1;accept-transform="identity")"),
            (ForwardingAnswer{.forwarding = true, .transform = {}, .key = {}}));
  EXPECT_EQ(Answer("?1;transform=identity;x=2"),
            (ForwardingAnswer{.forwarding = true, .transform = {}, .key = {}}))
    << "a Token is no String";
}

TEST(ForwardingFields, AnswersAreKeptAsTheyCame) {
  for (const auto *name : {"rot13", "", "Identity", " identity"}) {
    const auto answer = Answer("?1;transform=\"" + std::string(name) + "\"");
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->transform, name);
  }
  EXPECT_EQ(Answer("?0"), ForwardingAnswer{});
}

TEST(ForwardingFields, KeysThatAreNone) {
  for (const auto *key : {
         "::",                                                  // 0 bytes
         ":AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHg==:",      // 31
         ":AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g:",      // 33
         "\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"",    // A String
         "1",
         "?1",
       }) {
    const auto text = std::string(";scramble-key=") + key;
    const auto offer = Offer(R"(?1;accept-transform="scramble-dt")" + text);
    ASSERT_TRUE(offer) << key;
    EXPECT_EQ(offer->transforms, std::vector{kScrambleDt});
    EXPECT_FALSE(offer->key) << key;
    const auto answer = Answer(R"(?1;transform="scramble-dt")" + text);
    ASSERT_TRUE(answer) << key;
    EXPECT_FALSE(answer->key) << key;
  }
  // One that nothing needs is read, too.
  EXPECT_EQ(Answer(WithKey(R"(?1;transform="identity")"))->key, Key());
}

//= draft-ietf-masque-quic-proxy, section 3
//# "Proxy-QUIC-Forwarding" is an Item Structured Header. Its value MUST be a Boolean.
TEST(ForwardingFields, NotABooleanItem) {
  for (const auto *value : {"", "1", "true", "?2", "?1, ?1", "(?1)", "\"?1\"", ":MQ==:", "?1;",
                            "?1;accept-transform=\"identity\";", "?1;accept-transform=\"ident",
                            "?1;accept-transform=\"identity\", ?0", "?1 x"}) {
    EXPECT_FALSE(Offer(value)) << value;
    EXPECT_FALSE(Answer(value)) << value;
  }
  EXPECT_FALSE(ReadOffer({}));
  EXPECT_FALSE(ReadAnswer(Message("proxy-quic-forwarding2", "?1")));
}

TEST(ForwardingFields, SeveralLinesAreNoItem) {
  const HeaderField line{"proxy-quic-forwarding", R"(?1;accept-transform="identity")"};
  EXPECT_TRUE(ReadOffer(Fields{line}));
  EXPECT_FALSE(ReadOffer(Fields{line, line}));
  // Joined by a comma they would be one String.
  EXPECT_FALSE(ReadOffer(Fields{{"proxy-quic-forwarding", "?1;accept-transform=\"identity"},
                                {"proxy-quic-forwarding", "scramble-dt\""}}));
  EXPECT_FALSE(ReadAnswer(Fields{{"proxy-quic-forwarding", "?0"}, {"x", "?1"},
                                 {"proxy-quic-forwarding", "?0"}}));
}

//= RFC 9297, section 3.4
//# Its value MUST be a Boolean; any
//# other value type MUST be handled as if the field were not present by
//# recipients (for example, if this field is included multiple times,
//# its type will become a List and the field will be ignored).
//
//= draft-ietf-masque-quic-proxy, section 4
//# "Proxy-QUIC-Port-Sharing" is an Item Structured Header. Its value MUST be a Boolean.
TEST(ForwardingFields, CapsuleProtocolAndPortSharing) {
  const std::pair<std::string, bool (*)(std::span<const HeaderField>)> readers[] = {
    {"capsule-protocol", ReadCapsuleProtocol},
    {"proxy-quic-port-sharing", ReadPortSharing},
  };
  for (const auto &[name, read] : readers) {
    EXPECT_TRUE(read(Message(name, "?1"))) << name;
    //= RFC 9297, section 3.4
    //# Receivers MUST ignore unknown
    //# parameters.
    EXPECT_TRUE(read(Message(name, " ?1;a;b=\"x\";c=:eA==: "))) << name;
    for (const auto *value : {"?0", "?0;a", "", "1", "true", "?1, ?1", "\"?1\"", "?1;", "?1;A"}) {
      EXPECT_FALSE(read(Message(name, value))) << name << " " << value;
    }
    EXPECT_FALSE(read({})) << name;
    EXPECT_FALSE(read(Message(name + "x", "?1"))) << name;
    EXPECT_FALSE(read(Fields{{name, "?1"}, {name, "?1"}})) << name;
  }
}

TEST(ForwardingFields, CapsuleProtocolAndPortSharingAreWritten) {
  EXPECT_EQ(CapsuleProtocolField(), (HeaderField{"capsule-protocol", "?1"}));
  EXPECT_EQ(PortSharingField(true), (HeaderField{"proxy-quic-port-sharing", "?1"}));
  EXPECT_EQ(PortSharingField(false), (HeaderField{"proxy-quic-port-sharing", "?0"}));
  EXPECT_TRUE(ReadCapsuleProtocol(Fields{CapsuleProtocolField()}));
  EXPECT_TRUE(ReadPortSharing(Fields{PortSharingField(true)}));
  EXPECT_FALSE(ReadPortSharing(Fields{PortSharingField(false)}));
}

} // namespace
} // namespace ngmasque
