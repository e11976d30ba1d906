/* SemaphoreWord: USERS threads that acquire and release one of PERMITS permits, each ROUNDS times,
 * the last TIMED of them with a deadline; or, with SIGNALS, PRODUCERS of them that release one each
 * and others that acquire one each, of a semaphore in which nobody holds permits (kStay). DEATHS of
 * them may die at any step. See docs/design/sync.md.
 *
 * Every access to shared memory is a step of its own, and so is every call of the kernel, with `DIE`
 * in front of each that writes. Sleeping blocks until the kernel wakes, so an end state in which
 * somebody sleeps is reported as an invalid one. The assertions find more inside than there are
 * permits, and permits or signals lost or doubled.
 *
 * The count in `signal` is `moved`: whether it changed since the thread last read it. `stale` is the
 * death epoch, likewise. The watchdog announces every death at some time; with NO_WATCHDOG there is
 * none, only holders die, and their life words alone must do, which is enough for two.
 *
 * Against the code: nobody spins; all look at the cells from the first on; of a release in somebody
 * else's name there is nothing here.
 *
 * What tools/check_models runs:
 * run:    -DUSERS=2 -DPERMITS=1 -DDEATHS=2
 * run:    -DUSERS=3 -DPERMITS=1 -DDEATHS=1
 * run:    -DUSERS=3 -DPERMITS=1 -DDEATHS=1 -DTIMED=1
 * run:    -DUSERS=3 -DPERMITS=2 -DDEATHS=0
 * run:    -DUSERS=2 -DPERMITS=1 -DDEATHS=2 -DROUNDS=2 -DNO_WATCHDOG
 * run:    -DUSERS=4 -DPERMITS=2 -DDEATHS=0 -DSIGNALS -DPRODUCERS=2
 * run:    -DUSERS=4 -DPERMITS=2 -DDEATHS=1 -DSIGNALS -DPRODUCERS=2 -DTIMED=2
 * prove:  -DUSERS=3 -DPERMITS=2 -DDEATHS=2
 * prove:  -DUSERS=3 -DPERMITS=1 -DDEATHS=2 -DTIMED=1 -DROUNDS=2
 * prove:  -DUSERS=4 -DPERMITS=1 -DDEATHS=0
 * mutant: -DUSERS=2 -DPERMITS=1 -DDEATHS=1 -DDEAD_KEEP
 * mutant: -DUSERS=2 -DPERMITS=1 -DDEATHS=0 -DROBS_THE_LIVING
 * mutant: -DUSERS=2 -DPERMITS=1 -DDEATHS=0 -DRELEASE_IS_SILENT
 * mutant: -DUSERS=4 -DPERMITS=2 -DDEATHS=0 -DSIGNALS -DPRODUCERS=2 -DRELEASE_CHANGES_NOTHING
 * mutant: -DUSERS=2 -DPERMITS=1 -DDEATHS=2 -DROUNDS=2 -DNO_WATCHDOG -DPASSES_WHAT_CHANGED
 * mutant: -DUSERS=3 -DPERMITS=1 -DDEATHS=0 -DNO_LAST_WAKE_UP
 * mutant: -DUSERS=2 -DPERMITS=1 -DDEATHS=0 -DMARKED_AFTER_LOOKING
 * mutant: -DUSERS=3 -DPERMITS=1 -DDEATHS=1 -DDEAF
 * mutant: -DUSERS=2 -DPERMITS=1 -DDEATHS=1 -DNO_WATCHDOG -DWATCHES_NOBODY
 * mutant: -DUSERS=2 -DPERMITS=1 -DDEATHS=1 -DSIGNALS -DPRODUCERS=1 -DTIMED=1 -DBOUND_AFTER
 */
#ifndef TIMED
#define TIMED 0
#endif
#ifndef ROUNDS
#define ROUNDS 1
#endif
#define ABSENT 100
#define FREE 101

/* The words. */
byte cell[PERMITS];
byte present;
bool mark;
bool moved[USERS];

/* The kernel. */
#define AWAKE 0
#define ASLEEP 1
#define BY_LIFE 2
byte bed[USERS];
bool watches[16]; /* 4 * who sleeps + on whose life word too */
bool dead[USERS];
bool unheard; /* of a death, by the watchdog */
bool stale[USERS];

/* The world around. */
byte budget = DEATHS;
byte crowd;
byte given;
byte used;
byte over;

#ifdef NO_WATCHDOG
#define MORTAL (inside || waking)
#else
#define MORTAL true
#endif
#define DIE :: atomic { budget > 0 && MORTAL -> budget--; die(); goto gone }

#if USERS > 2
#define IF_THIRD(it) it
#else
#define IF_THIRD(it)
#endif
#if USERS > 3
#define IF_FOURTH(it) it
#else
#define IF_FOURTH(it)
#endif

#define IS_HELD(c) (c < USERS)
#ifdef DEAD_KEEP
#define IS_OPEN(c) (c == FREE)
#else
#ifdef ROBS_THE_LIVING
#define IS_OPEN(c) (c == FREE || IS_HELD(c))
#else
#define IS_OPEN(c) (c == FREE || (IS_HELD(c) && dead[c % USERS]))
#endif
#endif
#ifdef SIGNALS
#define TAKEN ABSENT
#else
#define TAKEN me
#endif

/* Within atomic. */
inline stay_up() {
  bed[me] = AWAKE;
  watches[4 * me] = false; watches[4 * me + 1] = false;
  watches[4 * me + 2] = false; watches[4 * me + 3] = false
}
inline die() {
  dead[me] = true;
  stay_up();
  unheard = true;
  if :: inside -> inside = false; crowd-- :: else fi;
  if
  :: bed[0] == ASLEEP && watches[me] -> bed[0] = BY_LIFE
  :: bed[1] == ASLEEP && watches[4 + me] -> bed[1] = BY_LIFE
  IF_THIRD(:: bed[2] == ASLEEP && watches[8 + me] -> bed[2] = BY_LIFE)
  IF_FOURTH(:: bed[3] == ASLEEP && watches[12 + me] -> bed[3] = BY_LIFE)
  :: else
  fi
}

#ifdef DEAF
#define HEAR(who)
#else
#define HEAR(who) \
  stale[who] = true; \
  if :: bed[who] == ASLEEP -> bed[who] = AWAKE :: else fi;
#endif
#define WAKE(who) if :: bed[who] == ASLEEP -> bed[who] = AWAKE :: else fi;

/* Within atomic. */
inline announce() {
  HEAR(0)
  HEAR(1)
  IF_THIRD(HEAR(2))
  IF_FOURTH(HEAR(3))
  skip
}
/* Within atomic. The caller knows what the signal is now. */
inline change_signal() {
#ifndef RELEASE_CHANGES_NOTHING
  moved[0] = true;
  moved[1] = true;
  IF_THIRD(moved[2] = true;)
  IF_FOURTH(moved[3] = true;)
  moved[me] = false
#else
  skip
#endif
}
/* Within atomic. */
inline enter() {
  cell[i] = TAKEN;
#ifdef SIGNALS
  used++;
#else
  inside = true;
  crowd++;
  assert(crowd <= PERMITS);
#endif
  i = 0; v = 0; old_mark = false; slept = false; late = false; watched = 0
}

#define TIME_MAY_PASS if :: is_timed -> late = true :: true fi
#define SAME_SIGNAL (mark == old_mark && !moved[me])
#define NOBODY_WATCHED_IS_DEAD \
  (!(dead[0] && (watched & 1)) && !(dead[1] && (watched & 2)) \
   IF_THIRD(&& !(dead[2] && (watched & 4))) IF_FOURTH(&& !(dead[3] && (watched & 8))))

inline acquire() {
  /* take_free */
  i = 0;
  do
  :: i < present ->
     if
     DIE
     :: atomic { cell[i] == FREE -> enter(); goto acquired }
     :: atomic { cell[i] != FREE -> i++ }
     fi
  :: else -> i = 0; break
  od;
look:
  stale[me] = false;
#ifndef MARKED_AFTER_LOOKING
  atomic { old_mark = mark; moved[me] = false };
  TIME_MAY_PASS;
  if
  :: !old_mark && (slept || !late) ->
     if
     DIE
     :: atomic { SAME_SIGNAL -> mark = true; old_mark = true }
     :: atomic { !SAME_SIGNAL -> goto look }
     fi
  :: else
  fi;
#endif
  i = 0; watched = 0;
  do
  :: i < present ->
     v = cell[i];
     do
     :: IS_OPEN(v) ->
        if
        DIE
        :: atomic { cell[i] == v -> enter(); goto acquired }
        :: atomic { cell[i] != v -> v = cell[i] }
        fi;
#ifdef PASSES_WHAT_CHANGED
        break
#else
        skip
#endif
     :: else -> break
     od;
     atomic {
       if
       :: IS_HELD(v) -> watched = watched | (1 << v)
       :: else
       fi;
       v = 0; i++
     }
  :: else -> i = 0; break
  od;
#ifdef MARKED_AFTER_LOOKING
  atomic { old_mark = mark; moved[me] = false };
  if
  :: !old_mark ->
     if
     DIE
     :: atomic { SAME_SIGNAL -> mark = true; old_mark = true }
     :: atomic { !SAME_SIGNAL -> goto look }
     fi
  :: else
  fi;
#endif
  TIME_MAY_PASS;
  if :: late -> goto given_up :: else fi;
  atomic {
    if
    :: SAME_SIGNAL && !stale[me] && NOBODY_WATCHED_IS_DEAD ->
       bed[me] = ASLEEP;
#ifndef WATCHES_NOBODY
       watches[4 * me] = watched & 1;
       watches[4 * me + 1] = (watched >> 1) & 1;
       watches[4 * me + 2] = (watched >> 2) & 1;
       watches[4 * me + 3] = (watched >> 3) & 1
#endif
    :: else
    fi
  };
  if
  DIE
  :: atomic { bed[me] == AWAKE -> stay_up() }
  :: atomic { bed[me] == BY_LIFE -> stay_up() };
     if DIE :: atomic { announce() } fi
  :: atomic { is_timed && bed[me] == ASLEEP -> stay_up(); late = true }
  fi;
  slept = true;
  goto look
}

inline give_signal() {
  atomic { old_mark = mark; moved[me] = false };
#ifdef RELEASE_IS_SILENT
  skip
#else
  do
  :: !old_mark -> break
  :: old_mark ->
     atomic { old_mark = mark; moved[me] = false };
     if
     :: !old_mark -> break
     :: else
     fi;
     if
     DIE
     :: atomic { SAME_SIGNAL -> change_signal(); v = 1 }
     :: atomic { !SAME_SIGNAL -> v = 0 }
     fi;
     if
     :: v == 0
     :: v == 1 ->
        if
        DIE
        :: atomic {
             if
             :: bed[0] == ASLEEP -> bed[0] = AWAKE
             :: bed[1] == ASLEEP -> bed[1] = AWAKE
             IF_THIRD(:: bed[2] == ASLEEP -> bed[2] = AWAKE)
             IF_FOURTH(:: bed[3] == ASLEEP -> bed[3] = AWAKE)
             :: else -> v = 2
             fi
           }
        fi;
        if
        :: v == 1 -> break
        :: v == 2 ->
           if
           DIE
           :: atomic { SAME_SIGNAL -> mark = false; change_signal() }
           :: atomic { !SAME_SIGNAL -> v = 3 }
           fi;
#ifndef NO_LAST_WAKE_UP
           if
           :: v == 2 ->
              if DIE :: atomic { WAKE(0) WAKE(1) IF_THIRD(WAKE(2)) IF_FOURTH(WAKE(3)) skip } fi
           :: v == 3
           fi;
#endif
           break
        fi
     fi
  od;
#endif
  atomic { v = 0; old_mark = false }
}

inline add() {
  i = 0;
  do
  :: i < PERMITS ->
     if
     :: cell[i] != ABSENT -> i++
     :: cell[i] == ABSENT ->
#ifndef BOUND_AFTER
        if DIE :: atomic { if :: present <= i -> present = i + 1 :: else fi } fi;
#endif
        if
        DIE
        :: atomic { cell[i] == ABSENT -> cell[i] = FREE; given++ };
#ifdef BOUND_AFTER
           if DIE :: atomic { if :: present <= i -> present = i + 1 :: else fi } fi;
#endif
           break
        :: atomic { cell[i] != ABSENT -> i++ }
        fi
     fi
  :: i == PERMITS -> assert(false)
  od;
  i = 0
}

proctype User(byte me) {
  byte left = ROUNDS;
  byte i;
  byte v;
  byte watched;
  bool old_mark;
  bool slept;
  bool late;
  bool is_timed;
  bool inside;
  bool waking; /* has released, and is to wake */

  is_timed = (me >= USERS - TIMED);
#ifdef SIGNALS
  if
  :: me < PRODUCERS -> add(); give_signal(); goto gone
  :: else
  fi;
#endif
again:
  left--;
  acquire();
acquired:
#ifndef SIGNALS
  i = 0;
  do
  :: i < PERMITS ->
     if
     DIE
     :: atomic { cell[i] == me -> cell[i] = FREE; inside = false; crowd--; waking = true; break }
     :: atomic { cell[i] != me -> i++ }
     fi
  :: i == PERMITS -> assert(false) /* robbed */
  od;
  i = 0;
  give_signal();
  waking = false;
#endif
given_up:
  atomic { i = 0; watched = 0; old_mark = false; slept = false; late = false };
  if
  :: left > 0 -> goto again
  :: left == 0
  fi;
gone:
  over++
}

#ifndef NO_WATCHDOG
proctype Watchdog() {
end_watching:
  do
  :: atomic { unheard -> unheard = false; announce() }
  od
}
#endif

init {
  byte i;
  byte free;
  atomic {
#ifdef SIGNALS
    do :: i < PERMITS -> cell[i] = ABSENT; i++ :: else -> break od;
#else
    do :: i < PERMITS -> cell[i] = FREE; i++ :: else -> break od;
    present = PERMITS;
#endif
    i = 0;
    do :: i < USERS -> run User(i); i++ :: else -> break od;
#ifndef NO_WATCHDOG
    run Watchdog()
#endif
  }
  over == USERS;
  atomic {
    i = 0;
    do
    :: i < PERMITS ->
       if :: i < present && IS_OPEN(cell[i]) -> free++ :: else fi;
       assert(i < present || cell[i] == ABSENT);
       i++
    :: else -> break
    od;
#ifdef SIGNALS
    assert(used + free == given)
#else
    assert(free == PERMITS)
#endif
  }
}
