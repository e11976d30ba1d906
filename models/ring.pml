/* The ring: PRODUCERS that put MESSAGES each, CONSUMERS that take them, any of which but the last
 * consumer may die at any step, in the recovery too. See docs/design/ring.md.
 *
 * Every access to shared memory that matters is a step of its own. Who has claimed or taken may say so
 * in the cursor or not, as it likes: that is more than the code does, which says so now and then. All waiting blocks until what was
 * looked at has changed, so an end state in which a message is left, or a producer waits, shows: the
 * monitor asserts that whatever was put has been taken once. Who sleeps on which futex, growing,
 * leases and the end are the schedules' business (ring_schedule_test.cpp).
 *
 * What tools/check_models runs:
 * run:    -DPRODUCERS=2 -DCONSUMERS=2 -DMESSAGES=1 -DDEATHS=1
 * run:    -DPRODUCERS=1 -DCONSUMERS=2 -DMESSAGES=3 -DDEATHS=1
 * prove:  -DPRODUCERS=1 -DCONSUMERS=2 -DMESSAGES=3 -DDEATHS=2
 * prove:  -DPRODUCERS=2 -DCONSUMERS=2 -DMESSAGES=1 -DDEATHS=2
 * mutant: -DPRODUCERS=2 -DCONSUMERS=2 -DMESSAGES=1 -DDEATHS=1 -DNO_TAIL_HELP
 * mutant: -DPRODUCERS=2 -DCONSUMERS=2 -DMESSAGES=1 -DDEATHS=1 -DNO_HEAD_HELP
 * mutant: -DPRODUCERS=1 -DCONSUMERS=2 -DMESSAGES=3 -DDEATHS=1 -DNO_LATE
 * mutant: -DPRODUCERS=1 -DCONSUMERS=2 -DMESSAGES=3 -DDEATHS=1 -DLATE_BEFORE
 * mutant: -DPRODUCERS=1 -DCONSUMERS=2 -DMESSAGES=3 -DDEATHS=1 -DUNMARKED
 * mutant: -DPRODUCERS=2 -DCONSUMERS=2 -DMESSAGES=1 -DDEATHS=1 -DTOMB_FOR_ALL
 * mutant: -DPRODUCERS=1 -DCONSUMERS=2 -DMESSAGES=3 -DDEATHS=1 -DROBS_THE_LIVING
 * mutant: -DPRODUCERS=1 -DCONSUMERS=2 -DMESSAGES=3 -DDEATHS=1 -DHINT_BEYOND_THE_UNTAKEN
 * mutant: -DPRODUCERS=1 -DCONSUMERS=2 -DMESSAGES=3 -DDEATHS=1 -DHINT_BEYOND_THE_UNCLAIMED
 */
#ifndef PRODUCERS
#define PRODUCERS 2
#endif
#ifndef CONSUMERS
#define CONSUMERS 2
#endif
#ifndef MESSAGES
#define MESSAGES 1
#endif
#ifndef DEATHS
#define DEATHS 1
#endif
#define SLOTS 2
#define LIMIT 2
#define IDS (PRODUCERS * MESSAGES)
#define NOBODY 255

#define FREE 0
#define CLAIMED 1
#define READY 2
#define TAKING 3
#define TOMB 4

/* The word of a slot, and its message. */
byte lap[SLOTS];
byte st[SLOTS];
byte own[SLOTS] = NOBODY;
bool mark[SLOTS];
byte msg[SLOTS];

byte tail;
byte head;
byte late;
byte late_done;
byte epoch;
byte seen;

bool dead[PRODUCERS + CONSUMERS];
byte budget = DEATHS;
bool put[IDS];
byte taken[IDS];
byte finished; /* producers that are done or dead */

#define DIE :: atomic { mortal && budget > 0 -> budget--; dead[me] = true; epoch++; goto gone }

#ifdef ROBS_THE_LIVING
#define IS_DEAD(who) (true)
#else
#define IS_DEAD(who) dead[who]
#endif

/* Converts what the dead hold. */
inline heal() {
  if
  :: seen != epoch ->
     atomic { e = epoch; s = seen; r = 0; found = false }
#ifdef LATE_BEFORE
     if DIE :: late++ fi;
#endif
     do
     :: r < SLOTS ->
        if
        DIE
        :: atomic {
             st[r] == CLAIMED && own[r] != me && IS_DEAD(own[r]) ->
             own[r] = me
           };
           /* its own now */
           if DIE :: atomic { st[r] = TOMB; own[r] = NOBODY; r++ } fi
        :: atomic {
             st[r] == TAKING && own[r] != me && IS_DEAD(own[r]) ->
#ifdef TOMB_FOR_ALL
             st[r] = TOMB;
#else
             st[r] = READY;
#ifndef UNMARKED
             mark[r] = true;
#endif
#endif
             own[r] = NOBODY;
             found = true; r++
           }
        :: atomic {
             !((st[r] == CLAIMED || st[r] == TAKING) && own[r] != me && IS_DEAD(own[r])) ->
             found = found || (st[r] == READY && mark[r]);
             r++
           }
        fi
     :: else -> r = 0; break
     od;
#if !defined(NO_LATE) && !defined(LATE_BEFORE)
     if
     :: found -> if DIE :: atomic { late++; found = false } fi
     :: else -> skip
     fi;
#endif
     atomic { if :: seen == s -> seen = e :: else -> skip fi; e = 0; s = 0; found = false }
  :: else -> skip
  fi
}

/* The position h, below which all is taken: goes over it if that is taken too. `moved` says whether. */
inline pass_over(h) {
  atomic { i = h % SLOTS; wl = lap[i]; ws = st[i]; moved = false }
  if
  :: wl == h / SLOTS && ws == TOMB ->
     if
     DIE
     :: atomic {
          if
          :: lap[i] == wl && st[i] == TOMB -> st[i] = FREE; lap[i] = wl + 1
          :: else -> skip
          fi
        }
     fi;
     moved = true /* here again, or over it */
  :: (wl == h / SLOTS && ws == TAKING) || wl > h / SLOTS ->
#ifndef NO_HEAD_HELP
     atomic { moved = true; h++ }
#else
     skip
#endif
  :: else -> skip
  fi
}

/* Raises a cursor, or leaves that to others. */
inline tell(cursor, to) {
  if
  :: skip
  DIE
  :: atomic { if :: cursor < to -> cursor = to :: else -> skip fi }
  fi
}

proctype Producer(byte me) {
  bool mortal = true;
  byte n; byte t; byte h; byte i; byte wl; byte ws; byte hint;
  byte e; byte s; byte r;
  bool found; bool moved; bool won;

again:
  do
  :: n == MESSAGES -> break
  :: n < MESSAGES ->
     heal();
     atomic { t = tail; if :: t < hint -> t = hint :: else -> skip fi };
walking:
     atomic { i = t % SLOTS; wl = lap[i]; ws = st[i] }
     if
     :: (wl == t / SLOTS && ws != FREE) || wl > t / SLOTS ->
#ifdef NO_TAIL_HELP
        if
        :: wl > t / SLOTS -> (tail > t || epoch != seen)
        :: else -> atomic { t++; goto walking }
        fi;
#else
        atomic { t++; goto walking }
#endif
     :: else ->
        h = head;
looking:
        if
        :: t - h >= LIMIT ->
           pass_over(h);
           if
           :: moved -> goto looking
           :: else -> (lap[i] != wl || st[i] != ws || epoch != seen); goto looking
           fi
        :: else -> skip
        fi;
        atomic { i = t % SLOTS; wl = lap[i]; ws = st[i] }
        if
        :: wl < t / SLOTS -> /* the slot is held: busy */
           (lap[i] != wl || st[i] != ws || epoch != seen)
        :: wl > t / SLOTS -> skip
        :: wl == t / SLOTS ->
           if
           DIE
           :: atomic {
                won = (lap[i] == wl && st[i] == FREE);
                if
                :: won -> st[i] = CLAIMED; own[i] = me; mark[i] = false; hint = t + 1
#ifdef HINT_BEYOND_THE_UNCLAIMED
                   ; hint = t + 2
#endif
                :: else -> skip
                fi
              }
           fi;
           if
           :: won ->
              tell(tail, t + 1);
              if DIE :: msg[i] = me * MESSAGES + n fi;
              if
              DIE
              :: atomic {
                   assert(st[i] == CLAIMED && own[i] == me);
                   st[i] = READY; own[i] = NOBODY; put[me * MESSAGES + n] = true; n++;
                   won = false
                 }
              fi
           :: else -> skip
           fi
        fi
     fi;
     atomic { t = 0; h = 0; i = 0; wl = 0; ws = 0; moved = false }
  od;
gone:
  finished++
}

proctype Consumer(byte me; bool mortal) {
  byte h; byte i; byte wl; byte ws; byte g; byte hint;
  byte e; byte s; byte r;
  bool found; bool moved; bool won;

again:
  atomic { h = 0; i = 0; wl = 0; ws = 0; g = 0; moved = false; won = false }
  heal();
  if
  :: late != late_done ->
     atomic { g = late; i = 0 }
     do
     :: i < SLOTS ->
        if
        DIE
        :: atomic {
             st[i] == READY && mark[i] ->
             st[i] = TAKING; own[i] = me; mark[i] = false; goto holding
           }
        :: atomic { !(st[i] == READY && mark[i]) -> i++ }
        fi
     :: else -> i = 0; break
     od;
     if DIE :: late_done = g fi;
     goto again
  :: else -> skip
  fi;
  atomic { h = head; if :: h < hint -> h = hint :: else -> skip fi };
walking:
  atomic { i = h % SLOTS; wl = lap[i]; ws = st[i] }
  if
  :: wl == h / SLOTS && ws == READY ->
     if
     DIE
     :: atomic {
          won = (lap[i] == wl && st[i] == READY);
          if
          :: won -> st[i] = TAKING; own[i] = me; mark[i] = false; hint = h + 1
          :: else -> skip
          fi
        }
     fi;
     if
     :: won -> tell(head, h + 1)
     :: else -> goto again
     fi
  :: else ->
     pass_over(h); /* which looks anew */
     if
     :: moved -> goto walking
     :: !moved && wl == h / SLOTS && ws == READY -> goto again
     :: else -> skip
     fi;
     tell(head, h);
#ifdef HINT_BEYOND_THE_UNTAKEN
     hint = h + 1;
#endif
     i = h % SLOTS;
end_waiting:
     (lap[i] != wl || st[i] != ws || late != late_done || epoch != seen);
     goto again
  fi;
holding:
  if
  DIE
  :: atomic {
       assert(st[i] == TAKING && own[i] == me);
       taken[msg[i]]++;
       assert(taken[msg[i]] == 1);
       st[i] = FREE; own[i] = NOBODY; lap[i] = lap[i] + 1
     }
  fi;
  goto again;
gone:
  skip
}

/* When nobody can go on, everything must have been taken. */
proctype Monitor() {
  byte i;
end_watching:
  timeout ->
  atomic {
    assert(finished == PRODUCERS);
    do
    :: i < IDS -> assert(!put[i] || taken[i] == 1); i++
    :: else -> break
    od
  }
}

init {
  byte i = 0;
  atomic {
    do :: i < PRODUCERS -> run Producer(i); i++ :: else -> break od;
    i = 0;
    do
    :: i < CONSUMERS -> run Consumer(PRODUCERS + i, i + 1 < CONSUMERS); i++
    :: else -> break
    od;
    run Monitor()
  }
}
