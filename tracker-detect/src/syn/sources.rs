//! Where SYNs come from: shares of sources and prefixes in a random sample, and the class of a flood.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    time::Duration,
};

use ipnet::IpNet;
use tracker_model::api::{AlertKind, Class, SourceShare};

use super::{settings::ADDRESSES, usual_sources::UsualSources};

/// Addresses older than this are dropped,
const AGE: Duration = Duration::from_secs(3);
/// unless there are fewer than this: a slow flood.
const SMALL_SAMPLE: usize = 64;
/// Prefixes that are few enough to be dropped one by one,
const FEW: usize = 4;
/// and the share of what goes unanswered that they hold then.
const NEARLY_ALL: f64 = 0.9;
/// Fewer addresses than this make no class.
const MIN_ADDRESSES: usize = 8;
/// Entries of a list of the largest shares.
const TOP: usize = 10;
/// A source or prefix with such a part of the unanswered SYNs is where the flood comes from.
const MIN_SHARE: f64 = 0.8;
/// A source that completes this part of its SYNs is a client. Its SYNs may be repeats, and both are estimates.
const COMPLETES: f64 = 0.5;
/// Handshakes that are known to be of a source, at least, before it is taken for a client.
const MIN_COMPLETED: u32 = 2;

/// A source is one address; of the prefixes, those that a flood is classified by.
const LENGTHS: [[u8; 3]; 2] = [[32, 24, 16], [128, 64, 48]];

/// The source and its prefixes, narrowest first.
fn origins(address: IpAddr) -> [IpNet; 3] {
    LENGTHS[usize::from(address.is_ipv6())].map(|length| IpNet::new_assert(address, length).trunc())
}

/// Whether it is one address.
fn is_source(origin: IpNet) -> bool {
    origin.prefix_len() == origin.max_prefix_len()
}

/// An address without its length, a prefix with it.
fn name(origin: IpNet) -> String {
    if is_source(origin) { origin.addr().to_string() } else { origin.to_string() }
}

/// Where a flood comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribution {
    pub class: Class,
    /// The source or prefix, unless it is all over.
    pub origin: Option<IpNet>,
}

impl Attribution {
    /// The source or prefix, as it is written in an address list or a firewall rule.
    pub fn origin_name(&self) -> Option<String> {
        self.origin.map(name)
    }

    /// The kind of an alert of this class.
    pub const fn kind(&self) -> AlertKind {
        match self.class {
            Class::SlowAccept => AlertKind::AcceptOverflow,
            Class::Scan => AlertKind::PortScan,
            _ => AlertKind::SynFlood,
        }
    }

    /// All over, or not known better.
    pub const ALL_OVER: Self = Self { class: Class::Spoofed, origin: None };
}

/// An address of the sample.
#[derive(Clone, Copy, Debug)]
struct Drawn {
    at: Duration,
    /// SYNs that it represents.
    weight: f32,
    address: IpAddr,
}

/// The last sampled addresses of a subject.
#[derive(Debug, Default)]
pub struct SourceSample {
    drawn: VecDeque<Drawn>,
}

/// Share of an origin.
#[derive(Clone, Copy, Debug)]
struct Share {
    origin: IpNet,
    part: f64,
    /// SYNs that its addresses represent.
    weight: f64,
}

impl SourceSample {
    /// Adds addresses that were drawn from `count` since the last time.
    pub fn add(&mut self, at: Duration, count: u64, sample: &[IpAddr]) {
        // No more than is kept, whatever is handed over.
        let sample = &sample[..sample.len().min(ADDRESSES)];
        #[expect(clippy::cast_precision_loss, reason = "a weight is rounded anyway")]
        let weight = count.max(1) as f32 / sample.len().max(1) as f32;
        self.drawn.extend(sample.iter().map(|&address| Drawn { at, weight, address: address.to_canonical() }));
        while self.drawn.len() > ADDRESSES
            || (self.drawn.len() > SMALL_SAMPLE
                && self.drawn.front().is_some_and(|drawn| at.saturating_sub(drawn.at) > AGE))
        {
            self.drawn.pop_front();
        }
    }

    /// Forgets what was drawn up to a moment.
    pub fn forget_until(&mut self, at: Duration) {
        self.drawn.retain(|drawn| drawn.at > at);
    }

    /// Of how many an origin is, by this sample, and how often it was drawn.
    fn weight_of(&self, origin: IpNet) -> (f64, u32) {
        let drawn = self.drawn.iter().filter(|drawn| origin.contains(&drawn.address));
        drawn.fold((0.0, 0), |(sum, count), drawn| (sum + f64::from(drawn.weight), count + 1))
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.drawn = VecDeque::new();
    }

    /// How many addresses there are.
    pub fn len(&self) -> usize {
        self.drawn.len()
    }

    /// Shares of all sources and prefixes, and the number of equally weighted addresses that would say as much.
    fn shares(&self) -> (Vec<Share>, f64) {
        let mut sums: HashMap<IpNet, f64> = HashMap::new();
        let (mut all, mut squares) = (0.0, 0.0);
        for Drawn { weight, address, .. } in &self.drawn {
            let weight = f64::from(*weight);
            all += weight;
            squares += weight * weight;
            for origin in origins(*address) {
                *sums.entry(origin).or_default() += weight;
            }
        }
        let mut shares: Vec<_> =
            sums.into_iter().map(|(origin, weight)| Share { origin, part: weight / all, weight }).collect();
        shares.sort_by(|a, b| {
            b.part
                .total_cmp(&a.part)
                .then(b.origin.prefix_len().cmp(&a.origin.prefix_len()))
                .then(a.origin.cmp(&b.origin))
        });
        (shares, if squares > 0.0 { all * all / squares } else { 0.0 })
    }

    /// Sources and prefixes with the largest shares. Those whose share is not larger than its error say nothing and are
    /// left out. `completed` are the sources of completed handshakes: they tell clients.
    pub fn top(&self, completed: &Self) -> (Vec<SourceShare>, Vec<SourceShare>) {
        let (shares, n) = self.shares();
        let shown = |share: &Share| SourceShare {
            source: name(share.origin),
            share: share.part,
            error: half_width(share.part, n),
            completes: completed.is_client(share),
        };
        let of_weight = shares.iter().filter(|share| share.part > half_width(share.part, n));
        let sources = of_weight.clone().filter(|share| is_source(share.origin)).take(TOP).map(shown).collect();
        let prefixes: Vec<&Share> = of_weight.filter(|share| !is_source(share.origin)).take(4 * TOP).collect();
        let covered = |wide: &Share| {
            prefixes.iter().any(|narrow| {
                narrow.origin.prefix_len() > wide.origin.prefix_len()
                    && wide.origin.contains(&narrow.origin.addr())
                    && narrow.part * 1.1 >= wide.part
            })
        };
        let prefixes = prefixes.iter().filter(|share| !covered(share)).take(TOP).map(|share| shown(share)).collect();
        (sources, prefixes)
    }

    /// Whether an origin, with its share of the SYNs, completes most of its handshakes; of a sample of those completed.
    fn is_client(&self, share: &Share) -> bool {
        let (weight, drawn) = self.weight_of(share.origin);
        drawn >= MIN_COMPLETED && weight >= COMPLETES * share.weight
    }

    /// Where the unanswered SYNs come from; none when too few are known. Shares are of all SYNs, so what each source
    /// usually sends is taken off: a load balancer that sends most of the legitimate ones is not where a spoofed flood
    /// comes from. Nor is it one that completes most of its handshakes, by `completed`: a surge of clients from one
    /// prefix.
    pub fn attribute(
        &self,
        syn_rate: f64,
        unanswered_rate: f64,
        usual: &UsualSources,
        completed: &Self,
    ) -> Option<Attribution> {
        if self.drawn.len() < MIN_ADDRESSES {
            return None;
        }
        let most = MIN_SHARE * unanswered_rate.min(syn_rate);
        let (shares, _) = self.shares();
        let origin = shares
            .iter()
            .filter(|share| share.part * syn_rate - usual.rate(share.origin) >= most && !completed.is_client(share))
            .min_by_key(|share| std::cmp::Reverse(share.origin.prefix_len()))
            .map(|share| share.origin);
        Some(origin.map_or(Attribution::ALL_OVER, |origin| {
            let class = if is_source(origin) { Class::SingleSource } else { Class::Prefix };
            Attribution { class, origin: Some(origin) }
        }))
    }
}

/// The prefixes that hold nearly all that goes unanswered, if those are few: SYNs from all over may come from blocks
/// that can be dropped. `unanswered` is the share of the SYNs that does.
pub fn few_prefixes(prefixes: &[SourceShare], unanswered: f64) -> Option<(Vec<IpNet>, f64)> {
    let mut chosen: Vec<IpNet> = Vec::new();
    let mut sum = 0.0;
    for prefix in prefixes.iter().filter(|prefix| !prefix.completes) {
        let Ok(net) = prefix.source.parse::<IpNet>() else { continue };
        if chosen.iter().any(|other| other.contains(&net) || net.contains(other)) {
            continue;
        }
        chosen.push(net);
        sum += prefix.share;
        if sum >= NEARLY_ALL * unanswered.clamp(0.5, 1.0) {
            return Some((chosen, sum));
        }
        if chosen.len() == FEW {
            break;
        }
    }
    None
}

/// Half of the Wilson 95 % confidence interval (E. B. Wilson, 1927) of a share of `n` draws.
fn half_width(share: f64, n: f64) -> f64 {
    const Z: f64 = 1.96;
    if n <= 0.0 {
        return 1.0;
    }
    let square = Z * Z / n;
    let variance = share * (1.0 - share) / n + square / (4.0 * n);
    (Z * variance.max(0.0).sqrt() / (1.0 + square)).min(1.0)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::syn::SourcesObservation;

    fn seen(syns: u64, sample: impl IntoIterator<Item = IpAddr>) -> SourcesObservation {
        SourcesObservation { syns, sample: sample.into_iter().collect(), ..SourcesObservation::default() }
    }

    fn address(bits: u32) -> IpAddr {
        Ipv4Addr::from_bits(bits).into()
    }

    fn sample(addresses: impl IntoIterator<Item = IpAddr>) -> SourceSample {
        let mut sample = SourceSample::default();
        sample.add(Duration::ZERO, 1_000, &addresses.into_iter().collect::<Vec<_>>());
        sample
    }

    const fn random(n: u32) -> u32 {
        n.wrapping_mul(2_654_435_761)
    }

    #[test]
    fn the_narrowest_origin_of_most_is_the_class() {
        let class = |addresses: &dyn Fn(u32) -> IpAddr| {
            let attribution = sample((0..200).map(addresses))
                .attribute(1_000.0, 900.0, &UsualSources::default(), &SourceSample::default())
                .unwrap();
            (attribution.class, attribution.origin_name().unwrap_or_default())
        };
        let six = |n: u128| IpAddr::from(Ipv6Addr::from_bits((0x2001_0db8_u128 << 96) + n));
        let prefix = |name: &str| (Class::Prefix, name.to_owned());
        assert_eq!(class(&|n| address(random(n))), (Class::Spoofed, String::new()));
        let one = class(&|n| address(if n % 10 == 0 { random(n) } else { 0xc000_0201 }));
        assert_eq!(one, (Class::SingleSource, "192.0.2.1".to_owned()));
        assert_eq!(class(&|n| address(0xc000_0200 + n)), prefix("192.0.2.0/24"));
        assert_eq!(class(&|n| address(0x0a01_0000 + random(n) % 65_536)), prefix("10.1.0.0/16"));
        assert_eq!(class(&|n| six(u128::from(n) * 7_919)), prefix("2001:db8::/64"));
        assert_eq!(class(&|n| six(u128::from(n) << 64)), prefix("2001:db8::/48"));
        assert_eq!(
            sample((0..7).map(address)).attribute(5.0, 5.0, &UsualSources::default(), &SourceSample::default()),
            None,
            "too few"
        );
    }

    #[test]
    fn a_usual_source_is_not_the_flood() {
        let mut usual = UsualSources::default();
        let proxy = address(0x0a00_0001);
        for _ in 0..3 {
            usual.learn(&seen(12_000, vec![proxy; 200]), 15.0);
        }
        let sample = sample((0..250).map(|n| if n % 5 == 0 { address(random(n)) } else { proxy }));
        assert_eq!(sample.attribute(1_000.0, 200.0, &usual, &SourceSample::default()), Some(Attribution::ALL_OVER));
    }

    #[test]
    fn lists_are_short_and_leave_out_what_a_narrower_prefix_says() {
        let (sources, prefixes) = sample((0..200).map(|n| address(if n % 4 == 0 { n << 16 } else { 0xc000_0201 })))
            .top(&SourceSample::default());
        let names = |shares: &[SourceShare]| shares.iter().map(|share| share.source.clone()).collect::<Vec<_>>();
        assert_eq!((names(&sources), names(&prefixes)), (vec!["192.0.2.1".into()], vec!["192.0.2.0/24".into()]));
        assert!((sources[0].share - 0.75).abs() < 1e-9 && (0.05..0.07).contains(&sources[0].error));
        assert_eq!(sample((0..600).map(|n| address(n % 20))).top(&SourceSample::default()).0.len(), TOP);
        let (sources, _) = sample((0..600).map(|n| address(random(n / 2)))).top(&SourceSample::default());
        assert_eq!(sources, [], "a share of 0.3 % with an error of 0.5 % says nothing");
    }

    #[test]
    fn who_completes_handshakes_is_marked_and_who_does_so_now_and_then_is_not() {
        let (client, attacker) = (address(0x0a5b_0001), address(0xc633_6401));
        // Of 1,000 SYNs 100 are of a client and 500 of one source, the rest of any.
        let drawn = (0..200).map(|n| match n % 10 {
            0 => client,
            1..6 => attacker,
            _ => address(random(n)),
        });
        let mut completed = SourceSample::default();
        completed.add(Duration::ZERO, 100, &[vec![client; 30], vec![attacker; 2]].concat());
        let (sources, prefixes) = sample(drawn).top(&completed);
        let said = |shares: &[SourceShare]| -> Vec<_> {
            shares.iter().map(|share| (share.source.clone(), share.completes)).collect()
        };
        assert_eq!(said(&sources), [("198.51.100.1".to_owned(), false), ("10.91.0.1".to_owned(), true)]);
        assert_eq!(said(&prefixes), [("198.51.100.0/24".to_owned(), false), ("10.91.0.0/24".to_owned(), true)]);
    }

    #[test]
    fn few_prefixes_are_named_when_they_hold_nearly_all() {
        let share = |source: &str, share| SourceShare { source: source.into(), share, error: 0.01, completes: false };
        let two = [share("198.19.0.0/16", 0.494), share("198.18.0.0/16", 0.466), share("198.18.7.0/24", 0.02)];
        let named = |prefixes: &[SourceShare], unanswered| {
            few_prefixes(prefixes, unanswered).map(|(nets, _)| nets.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(named(&two, 1.0), Some(vec!["198.19.0.0/16".into(), "198.18.0.0/16".into()]));
        assert_eq!(named(&two[1..], 1.0), None, "half of it");
        let client = SourceShare { completes: true, ..share("10.0.0.0/24", 0.5) };
        assert_eq!(named(&[client, share("198.18.0.0/16", 0.46)], 0.5), Some(vec!["198.18.0.0/16".into()]));
        let five: Vec<_> = (0..5).map(|n| share(&format!("10.{n}.0.0/16"), 0.2)).collect();
        assert_eq!(named(&five, 1.0), None, "too many to be dropped one by one");
    }

    #[test]
    fn memory_is_bounded() {
        let mut sample = SourceSample::default();
        for second in 0..10 {
            sample.add(Duration::from_secs(second), 1 << 40, &(0..5_000).map(address).collect::<Vec<_>>());
        }
        assert_eq!(sample.len(), ADDRESSES);
    }
}
