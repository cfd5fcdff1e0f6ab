"""Names that ordinary clients ask: what people know, and what machines make for honest reasons.

The popular ones are written from memory and a sample of what is known; brands are made as people make them, of words,
abbreviations and endings. The others follow how their services build names.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import islice

_HEX, _BASE32 = "0123456789abcdef", "abcdefghijklmnopqrstuvwxyz234567"

_POPULAR = """
    google.com youtube.com facebook.com wikipedia.org instagram.com reddit.com amazon.com netflix.com microsoft.com
    linkedin.com github.com apple.com stackoverflow.com yahoo.com bing.com twitter.com whatsapp.com tiktok.com
    office.com live.com zoom.us pinterest.com ebay.com paypal.com dropbox.com spotify.com twitch.tv discord.com
    wordpress.com blogspot.com tumblr.com vimeo.com soundcloud.com imdb.com cnn.com bbc.co.uk nytimes.com
    theguardian.com washingtonpost.com reuters.com bloomberg.com forbes.com wsj.com ft.com economist.com spiegel.de
    zeit.de faz.net heise.de golem.de tagesschau.de lemonde.fr lefigaro.fr liberation.fr elpais.com elmundo.es
    repubblica.it corriere.it asahi.com yomiuri.co.jp rakuten.co.jp naver.com daum.net baidu.com qq.com taobao.com
    tmall.com jd.com weibo.com sohu.com sina.com.cn alibaba.com aliexpress.com yandex.ru vk.com mail.ru ok.ru
    avito.ru wildberries.ru ozon.ru globo.com uol.com.br mercadolivre.com.br flipkart.com indiatimes.com ndtv.com
    hotstar.com booking.com airbnb.com expedia.com tripadvisor.com uber.com lyft.com doordash.com etsy.com walmart.com
    target.com bestbuy.com homedepot.com costco.com ikea.com zalando.de otto.de mediamarkt.de lidl.de aldi.de rewe.de
    allegro.pl onet.pl wp.pl interia.pl seznam.cz novinky.cz alza.cz index.hu origo.hu emag.ro digi24.ro aftonbladet.se
    expressen.se dn.se vg.no nrk.no finn.no dr.dk tv2.dk yle.fi hs.fi iltalehti.fi nu.nl telegraaf.nl bol.com
    marktplaats.nl hln.be nieuwsblad.be standaard.be derstandard.at krone.at orf.at blick.ch nzz.ch srf.ch sabah.com.tr
    hurriyet.com.tr hepsiburada.com trendyol.com n11.com ynet.co.il walla.co.il kompas.com detik.com tokopedia.com
    shopee.co.id lazada.com.ph vnexpress.net zingnews.vn kaskus.co.id python.org debian.org ubuntu.com kernel.org
    mozilla.org apache.org nginx.org postgresql.org mysql.com redis.io docker.com kubernetes.io helm.sh golang.org
    rust-lang.org nodejs.org eclipse.org jenkins.io vim.org gnu.org gitlab.com bitbucket.org atlassian.com slack.com
    trello.com notion.so figma.com canva.com adobe.com oracle.com ibm.com sap.com salesforce.com hubspot.com zendesk.com
    mailchimp.com sendgrid.net twilio.com stripe.com shopify.com squarespace.com wix.com godaddy.com namecheap.com
    cloudflare.com fastly.net akamai.net akamaiedge.net edgekey.net cloudfront.net azureedge.net amazonaws.com
    googleapis.com gstatic.com googleusercontent.com ytimg.com ggpht.com fbcdn.net twimg.com licdn.com ssl-images.com
    doubleclick.net googlesyndication.com googletagmanager.com google-analytics.com scorecardresearch.com quantserve.com
    adnxs.com rubiconproject.com pubmatic.com openx.net criteo.com taboola.com outbrain.com casalemedia.com rlcdn.com
    demdex.net everesttech.net bluekai.com krxd.net mathtag.com adsrvr.org moatads.com chartbeat.com newrelic.com
    nr-data.net segment.io mixpanel.com hotjar.com optimizely.com crashlytics.com app-measurement.com sentry.io
    datadoghq.com grafana.net elastic.co splunk.com letsencrypt.org digicert.com verisign.com globalsign.com sectigo.com
    windowsupdate.com msftconnecttest.com office365.com sharepoint.com skype.com xboxlive.com playstation.net
    steampowered.com epicgames.com roblox.com minecraft.net blizzard.com ea.com nvidia.com amd.com intel.com dell.com
    hp.com lenovo.com samsung.com huawei.com xiaomi.com sony.com panasonic.com siemens.com bosch.com volkswagen.de
    toyota.com hyundai.com tesla.com bmw.de mercedes-benz.com deutschebahn.com lufthansa.com ryanair.com klm.com
    airfrance.fr sncf-connect.com renfe.com trenitalia.com nationalrail.co.uk ups.com fedex.com dhl.com usps.com
    harvard.edu stanford.edu mit.edu berkeley.edu cambridge.org ox.ac.uk ethz.ch tum.de u-tokyo.ac.jp nasa.gov nih.gov
    cdc.gov irs.gov whitehouse.gov europa.eu un.org who.int worldbank.org imf.org weather.com accuweather.com
    stackexchange.com quora.com medium.com substack.com duckduckgo.com archive.org wikimedia.org wiktionary.org
    openstreetmap.org mapbox.com here.com tomtom.com waze.com strava.com fitbit.com garmin.com
"""
POPULAR = tuple(_POPULAR.split())

_LISTED = """
    market green water travel health garden house smart cloud data media design studio group global digital news sport
    photo music video game kids pet food wine coffee bike auto car home land park city town river lake stone wood light
    solar power energy bank credit loan money trade stock gold silver blue red black white north south west east first
    best top super mega easy fast quick direct online mobile tech soft code web net byte bit pixel graph link hub port
    dock point center world planet star moon sun sky ocean island beach mountain forest farm field school college campus
    book paper print press daily weekly review guide planner shop store outlet mall fashion style beauty skin hair salon
    dental medical clinic doctor pharma care life family baby mom dad wedding event party ticket hotel hostel flight
    cruise tour camp trail
"""
_WORDS = tuple(_LISTED.split())
_TOPS = ("com", "net", "org", "io", "co", "de", "co.uk", "fr", "eu", "info", "app", "dev")


def popular(chance: random.Random) -> Iterator[str]:
    """Domains that everybody knows, and hosts of theirs."""
    while True:
        host = chance.choice(("", "", "www.", "api.", "static.", "img.", "login.", "cdn."))
        yield host + chance.choice(POPULAR)


def brands(chance: random.Random) -> Iterator[str]:
    """Companies named as people name them: words, sometimes with a prefix, a number, a hyphen, letters left out."""
    while True:
        words = chance.sample(_WORDS, chance.choice((1, 2, 2, 2, 3)))
        name = chance.choice(("", "", "-")).join(words)
        habit = chance.random()
        if habit < 0.1:
            name = words[0][0] + "".join(c for c in name[1:] if c not in "aeiou")[:8]
        elif habit < 0.2:
            name = "".join(chance.choice("abcdefghiklmnoprstvw") for _ in range(chance.randint(2, 4))) + words[0]
        elif habit < 0.3:
            name += chance.choice(("24", "365", "1", "360", "4u", "2go"))
        elif habit < 0.4:
            name = chance.choice(("get", "my", "the", "go", "e")) + name
        yield f"{name}.{chance.choice(_TOPS)}"


def content_network(chance: random.Random) -> Iterator[str]:
    """Hashes in front of a network's own domain."""
    while True:
        kind = chance.randrange(5)
        code = "".join(chance.choices(_BASE32, k=13))
        hexa = "".join(chance.choices(_HEX, k=chance.choice((8, 16, 32))))
        yield (
            f"d{code}.cloudfront.net", f"e{chance.randrange(99999)}.dscb.akamaiedge.net", f"{hexa}.azureedge.net",
            f"r{chance.randrange(1, 20)}---sn-{code[:10]}.googlevideo.com", f"{hexa[:12]}.b-cdn.net",
        )[kind]  # fmt: skip


def cloud_hosts(chance: random.Random) -> Iterator[str]:
    """Machines, buckets and load balancers with made-up names."""
    while True:
        four = "-".join(str(chance.randrange(256)) for _ in range(4))
        code = "".join(chance.choices(_BASE32, k=10))
        yield (
            f"ec2-{four}.eu-west-1.compute.amazonaws.com", f"{code}.execute-api.us-east-1.amazonaws.com",
            f"k8s-default-web-{code}-{chance.randrange(10**9)}.eu-central-1.elb.amazonaws.com",
            f"{code}-uc.a.run.app", f"{code}.blob.core.windows.net", f"{code}.gr7.eu-west-1.eks.amazonaws.com",
        )[chance.randrange(6)]  # fmt: skip


def block_lists(chance: random.Random) -> Iterator[str]:
    """A mail filter that looks up addresses and digests; most are not listed."""
    while True:
        four = ".".join(str(chance.randrange(256)) for _ in range(4))
        digest = "".join(chance.choices(_HEX, k=32))
        yield chance.choice((f"{four}.zen.spamhaus.org", f"{four}.bl.spamcop.net", f"{digest}.hash.surbl.org",
                             f"{four}.list.dnswl.org"))  # fmt: skip


def telemetry(chance: random.Random) -> Iterator[str]:
    """Reports and reputation look-ups whose content is in the name."""
    while True:
        code = "".join(chance.choices(_BASE32, k=26))
        yield chance.choice((f"{code}.avqs.mcafee.com", f"{code[:20]}.events.data.microsoft.com",
                             f"o{chance.randrange(10**6)}.ingest.sentry.io", f"{code}.metrics.example.com",
                             f"{code[:16]}.clo.footprintdns.com"))  # fmt: skip


def search_path(chance: random.Random) -> Iterator[str]:
    """Names of a pod, tried below its search path first."""
    while True:
        host = chance.choice(POPULAR)
        yield host + chance.choice((".shop.svc.cluster.local", ".svc.cluster.local", ".cluster.local", ""))


def reverse(chance: random.Random) -> Iterator[str]:
    """A monitor that looks up who has an address."""
    while True:
        yield ".".join(str(chance.randrange(256)) for _ in range(4)) + ".in-addr.arpa"


Generator = Callable[[random.Random], Iterator[str]]
KINDS: dict[str, Generator] = {
    f.__name__: f for f in (popular, brands, content_network, cloud_hosts, block_lists, telemetry, search_path, reverse)
}


def names(kind: str, seed: int, count: int) -> list[str]:
    """Return names that one client of a kind asks; a seed stands for a client."""
    return list(islice(KINDS[kind](random.Random(f"{kind} {seed}")), count))
