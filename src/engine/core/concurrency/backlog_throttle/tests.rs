//! The throttle against a simulated machine that gets slower under load.

use super::*;

/// The machine's capacity in deliveries per second, and the latency of one delivery when idle.
const CAN: f64 = 20_000.0;
const ONE: Duration = Duration::from_micros(800);

/// A machine with an endless backlog, and other endpoints with this many deliveries per second.
struct Machine {
    throttle: BacklogThrottle,
    now: Duration,
    others: f64,
    backlog: bool,
    /// Maximum deliveries per second, for a reason other than the machine's capacity.
    most: f64,
    /// Deliveries to other endpoints are queued in the process.
    waiting: bool,
    /// A disk stall: the latency of every delivery meanwhile.
    stalls: Option<Duration>,
    /// The load from 0 to 1, and deliveries to other endpoints under way.
    busy: f64,
    owed: f64,
    /// This second's deliveries to backlogged lanes, and latencies of the others.
    left: u32,
    took: Vec<Duration>,
}

impl Machine {
    fn new(others: f64) -> Machine {
        let throttle = BacklogThrottle::new();
        let (now, took) = (Duration::from_secs(100), Vec::new());
        Machine {
            throttle,
            now,
            others,
            backlog: false,
            most: CAN,
            waiting: false,
            stalls: None,
            busy: 0.0,
            owed: 0.0,
            left: 0,
            took,
        }
    }

    /// A machine that was quiet for two seconds and now has a backlog.
    fn with_backlog(others: f64) -> Machine {
        let mut machine = Machine::new(others);
        machine.run(2_000);
        machine.backlog = true;
        machine
    }

    /// A machine whose backlog has been throttled for five seconds.
    fn throttled() -> Machine {
        let mut machine = Machine::with_backlog(400.0);
        machine.run(5_000);
        machine
    }

    /// Advances by milliseconds. Returns the deliveries to backlogged lanes, and the median latency of the others.
    fn run(&mut self, millis: u64) -> (u32, Duration) {
        (self.left, self.took) = (0, vec![Duration::ZERO]);
        for _ in 0..millis {
            self.tick();
        }
        (self.left, median(&mut self.took))
    }

    /// The deliveries to backlogged lanes in the second after these milliseconds.
    fn left_after(&mut self, millis: u64) -> u32 {
        self.run(millis);
        self.run(1_000).0
    }

    fn tick(&mut self) {
        self.now += Duration::from_millis(1);
        self.throttle.update(self.now, self.waiting);
        let mut work = 0.0;
        self.owed += self.others / 1_000.0;
        while self.owed >= 1.0 {
            self.owed -= 1.0;
            let took = self.stalls.unwrap_or(ONE.div_f64(1.0 - self.busy));
            self.throttle.sample(took);
            self.took.push(took);
            self.throttle.count_send(false, self.now);
            work += 1.0;
        }
        let most = self.most.min(CAN) / 1_000.0;
        while self.backlog && work < most && self.throttle.wait(self.now).is_none() {
            self.throttle.count_send(true, self.now);
            self.left += 1;
            work += 1.0;
        }
        // Deliveries of the last milliseconds are still under way.
        let share = (work / (CAN / 1_000.0)).min(0.95);
        self.busy += (share - self.busy) * 0.2;
    }
}

#[test]
fn a_backlog_uses_capacity_without_raising_latency() {
    let mut machine = Machine::new(400.0);
    let (_, quiet) = machine.run(2_000);
    machine.backlog = true;
    let (_, at_first) = machine.run(1_000);
    assert!(at_first < quiet * 2, "from the start: {at_first:?} after {quiet:?}");
    let (left, then) = machine.run(10_000);
    assert!(then < quiet.mul_f64(1.6), "{then:?} after {quiet:?}");
    // At a third of its capacity, the machine's latency is half as much again.
    assert!((30_000..70_000).contains(&left), "{left} in ten seconds");
}

#[test]
fn a_backlog_alone_is_not_throttled() {
    let mut machine = Machine::with_backlog(400.0);
    machine.run(2_000);
    machine.others = 2.0;
    let left = machine.left_after(2_000);
    assert!(f64::from(left) > CAN * 0.95, "{left} in a second");
    machine.others = 400.0;
    // Until enough samples show that other lanes are active again.
    machine.run(1_000);
    for _ in 0..5 {
        let (left, _) = machine.run(200);
        assert!((80..2_000).contains(&left), "{left} in 0.2 s while others are back");
    }
}

#[test]
fn every_backlog_starts_slowly() {
    let mut machine = Machine::new(400.0);
    machine.run(2_000);
    for _ in 0..2 {
        machine.backlog = true;
        let (left, _) = machine.run(50);
        assert!((40..60).contains(&left), "{left} in 50 ms");
        machine.run(3_000);
        machine.backlog = false;
        machine.run(1_000);
    }
    machine.backlog = true;
    // Its receiver is slow at first, so the latency stays normal.
    machine.most = 500.0;
    machine.run(5_000);
    machine.most = CAN;
    let (left, _) = machine.run(100);
    assert!((50..350).contains(&left), "{left} in 0.1 s");
}

#[test]
fn usual_latency_is_learned_even_if_the_backlog_came_first() {
    let mut machine = Machine::new(400.0);
    machine.backlog = true;
    machine.run(2_000);
    let (_, then) = machine.run(5_000);
    assert!(then < ONE.mul_f64(1.7), "{then:?}");
}

#[test]
fn a_disk_stall_does_not_change_the_usual_latency() {
    let mut machine = Machine::with_backlog(400.0);
    let (before, _) = machine.run(5_000);
    machine.stalls = Some(Duration::from_millis(60));
    let (within, _) = machine.run(300);
    assert!(within < before / 15, "it yields during a stall: {within} in 0.3 s, {before} in 5 s before");
    machine.stalls = None;
    machine.run(2_000);
    let (left, then) = machine.run(5_000);
    assert!(then < ONE.mul_f64(1.7), "{then:?}");
    assert!(left > before / 2, "and then continues: {left} after {before}");
}

#[test]
fn a_backlog_always_gets_the_rate_of_the_others() {
    let mut machine = Machine::with_backlog(3_000.0);
    // The machine is slow regardless of the backlog.
    machine.stalls = Some(Duration::from_millis(5));
    let left = machine.left_after(1_000);
    assert!(left >= 2_700, "{left} in a second, beside 3,000");
    // A latency that does not improve when the backlog yields has another cause.
    let left = machine.left_after(10_000);
    assert!(left > 6_000, "{left} in a second");
}

#[test]
fn latency_beyond_a_second_does_not_disable_the_throttle() {
    let mut machine = Machine::throttled();
    machine.stalls = Some(MAX_SAMPLE);
    let left = machine.left_after(1_000);
    assert!((90..1_000).contains(&left), "it falls to the rate of the others: {left} in a second");
    assert!(machine.throttle.rate().is_some());
}

#[test]
fn missing_samples_do_not_disable_the_throttle_while_others_wait() {
    let mut machine = Machine::throttled();
    (machine.others, machine.waiting) = (0.0, true);
    let left = machine.left_after(10_000);
    assert!((90..150).contains(&left), "the lowest rate: {left} in a second");
    (machine.others, machine.waiting) = (400.0, false);
    let left = machine.left_after(5_000);
    assert!(left > 1_000, "and it recovers: {left} in a second");
}

#[test]
fn overload_is_never_taken_for_an_idle_machine() {
    let mut machine = Machine::throttled();
    // The machine slows down while others wait: alternately a few samples above a second, and none.
    machine.waiting = true;
    for round in 0..60 {
        machine.others = [3.0, 0.0, 20.0][round % 3];
        machine.stalls = Some(MAX_SAMPLE * (1 + round as u32 % 3));
        for _ in 0..1_500 {
            machine.tick();
            assert!(!machine.throttle.unlimited, "round {round}: {:?}", machine.throttle);
        }
        let (left, _) = machine.run(1_000);
        assert!(round < 8 || (90..200).contains(&left), "round {round}: the lowest rate: {left}");
    }
    (machine.others, machine.waiting, machine.stalls) = (0.0, false, None);
    let left = machine.left_after(3_000);
    assert!(f64::from(left) > CAN * 0.95, "the limit ends with the overload: {left}");
}
